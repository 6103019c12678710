// The distances by which the field counts answers as right, and the bands between them that colour the map.

export const THRESHOLDS = [
  { km: 1, name: "street" },
  { km: 25, name: "city" },
  { km: 200, name: "region" },
  { km: 750, name: "country" },
  { km: 2500, name: "continent" },
];

export const BANDS = [
  { top: 25, label: "under 25 km", color: "band-0", alpha: 0.85 },
  { top: 200, label: "25 to 200 km", color: "band-1", alpha: 0.85 },
  { top: 750, label: "200 to 750 km", color: "band-2", alpha: 0.5 },
  { top: 2500, label: "750 to 2,500 km", color: "band-3", alpha: 0.5 },
  { top: Infinity, label: "over 2,500 km", color: "band-4", alpha: 0.5 },
];

// Whether the stated radii hold the truth.
export const COVERED = [
  { label: "in the 50 % radius", color: "band-0", alpha: 0.85 },
  { label: "in the 90 % radius", color: "band-1", alpha: 0.85 },
  { label: "outside both", color: "band-4", alpha: 0.85 },
  { label: "no radius stated", color: "soft", alpha: 0.5 },
];

export function coveredOf({ km, radius_km_50, radius_km_90 }) {
  if (radius_km_90 === null) return COVERED[3];
  return km <= radius_km_50 ? COVERED[0] : km <= radius_km_90 ? COVERED[1] : COVERED[2];
}

// Which of two runs is nearer, by how much its error is smaller.
export const NEARER = [
  { label: "first nearer by over 200 km", color: "band-0", alpha: 0.85 },
  { label: "first nearer by 25 to 200 km", color: "band-1", alpha: 0.85 },
  { label: "alike within 25 km", color: "soft", alpha: 0.5 },
  { label: "second nearer by 25 to 200 km", color: "band-2", alpha: 0.85 },
  { label: "second nearer by over 200 km", color: "band-4", alpha: 0.85 },
];

export function nearerOf({ km, other_km }) {
  const gained = other_km - km;
  if (Math.abs(gained) < 25) return NEARER[2];
  if (gained > 0) return gained > 200 ? NEARER[0] : NEARER[1];
  return gained < -200 ? NEARER[4] : NEARER[3];
}

// A distance that isn't known counts as the farthest.
export const bandOf = (km) => BANDS.find(({ top }) => (km ?? Infinity) < top) ?? BANDS.at(-1);

// What the page's distances are: errors where the truth is known, else what the model states.
export const quantityOf = (content) => (content.metrics ? "error" : "90 % radius");
