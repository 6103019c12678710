// What the map shows, from the bottom up, as paths in a plane; all is projected once, and painted at any scale.
import { geoEqualEarth, geoGraticule, geoPath, quadtree } from "d3";
import { BANDS, bandOf } from "./thresholds.js";

export const PLANE = { width: 1010, height: 500 };

const SPHERE = { type: "Sphere" };
const MARGIN = [[5, 5], [PLANE.width - 5, PLANE.height - 5]];
const projection = geoEqualEarth().fitExtent(MARGIN, SPHERE).precision(0.02);
const lonlat = ({ latlon: [latitude, longitude] }) => [longitude, latitude];

// The images by column as rows. `ends` are those of an image's line in the plane: the truth if known, and the answer.
export function imagesOf({ id, latlon, label, labels, true_latlon, true_label, true_labels, km, radius_km_90 }) {
  return id.map((id, i) => {
    const answer = { latlon: latlon[i], label: labels[label[i]] };
    const truth = true_latlon && { latlon: true_latlon[i], label: true_labels[true_label[i]] };
    const ends = [truth ?? answer, answer].map((place) => projection(lonlat(place)));
    return { id, answer, truth, ends, km: km[i], radius_km_90: radius_km_90[i], band: bandOf(km[i]) };
  });
}

// Widths are in pixels; a dot's is that of all dots. What belongs to a band can be hidden.
export function layersOf(world, images) {
  const globe = pathOf(SPHERE);
  const ofBands = (layer) =>
    BANDS.map((band) => ({ band, stroke: band.color, ...layer(images.filter((image) => image.band === band), band) }));
  return [
    { path: globe, fill: "sea" },
    { path: pathOf(geoGraticule().step([30, 30])()), stroke: "grid", width: 0.8 },
    { path: pathOf(world.land), fill: "land" },
    { path: pathOf(world.borders), stroke: "border", width: 0.8 },
    { path: globe, stroke: "line", width: 0.8 },
    ...ofBands((some, band) => ({ path: linesOf(some), width: 1.1, alpha: band.alpha })),
    ...ofBands((some) => ({ path: dotsOf(some), width: "dot", alpha: 0.85 })),
    // On the whole world, rings about the answers would hide the dots.
    ...ofBands((some) => ({ rings: some.filter(({ truth }) => truth).map(({ ends }) => ends[1]), width: 1.2, fromZoom: 6 })),
  ];
}

export const selectionOf = (image) => (image ? [{ rings: image.ends, gap: 3, stroke: "ink", width: 1.6 }] : []);

function pathOf(geometry) {
  const path = new Path2D();
  geoPath(projection, path)(geometry);
  return path;
}

function linesOf(images) {
  const coordinates = images.filter(({ truth }) => truth).map(({ truth, answer }) => [lonlat(truth), lonlat(answer)]);
  return pathOf({ type: "MultiLineString", coordinates });
}

// Lines without length: their round caps are dots, of any size by the line's width.
function dotsOf(images) {
  const path = new Path2D();
  for (const { ends: [[x, y]] } of images) {
    path.moveTo(x, y);
    path.lineTo(x, y);
  }
  return path;
}

// Finds the image that has an end within a distance of a point of the plane.
export function finderOf(images) {
  const ends = images.flatMap((image) => image.ends.map(([x, y]) => ({ image, x, y })));
  const tree = quadtree(ends, (end) => end.x, (end) => end.y);
  return (x, y, distance) => tree.find(x, y, distance)?.image;
}
