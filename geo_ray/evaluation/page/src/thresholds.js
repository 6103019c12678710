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

// A distance that isn't known counts as the farthest.
export const bandOf = (km) => BANDS.find(({ top }) => (km ?? Infinity) < top) ?? BANDS.at(-1);

// What the page's distances are: errors where the truth is known, else what the model states.
export const quantityOf = (content) => (content.metrics ? "error" : "90 % radius");
