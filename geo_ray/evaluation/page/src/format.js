// Numbers as the page writes them; what isn't known is a dash.
export const DASH = "–";

const known = (value) => value !== null && value !== undefined;

export const whole = (value) => (known(value) ? Math.round(value).toLocaleString("en") : DASH);

export const percent = (share, digits = 1) => (known(share) ? `${(100 * share).toFixed(digits)} %` : DASH);

// Kilometres without the unit, for ranges and axes.
export const kmNumber = (value) => (value < 10 ? value.toFixed(value < 1 ? 2 : 1) : whole(value));

export const km = (value) => (known(value) ? `${kmNumber(value)} km` : DASH);

export function degrees([latitude, longitude]) {
  const side = (value, positive, negative) => `${Math.abs(value).toFixed(2)}° ${value < 0 ? negative : positive}`;
  return `${side(latitude, "N", "S")}, ${side(longitude, "E", "W")}`;
}
