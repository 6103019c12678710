// What the map shows, from the bottom up, as paths in a plane: all is projected once, and painted at any scale.
import { geoEqualEarth, geoGraticule, geoPath, group } from "d3";

export const PLANE = { width: 970, height: 480 };

const projection = geoEqualEarth().translate([PLANE.width / 2, PLANE.height / 2]).precision(0.02);
const lonlat = ({ latlon: [latitude, longitude] }) => [longitude, latitude];

// The images by column as rows. `ends` are those of an image's line in the plane: the truth if known, and the answer.
export function imagesOf(map, bandOf) {
  const { id, latlon, label, labels, true_latlon, true_label, true_labels, km, other_km } = map;
  return id.map((id, i) => {
    const answer = { latlon: latlon[i], label: labels[label[i]] };
    const truth = true_latlon && { latlon: true_latlon[i], label: true_labels[true_label[i]] };
    const ends = [truth ?? answer, answer].map((place) => projection(lonlat(place)));
    const radii = { radius_km_50: map.radius_km_50[i], radius_km_90: map.radius_km_90[i] };
    const distances = { km: km[i], other_km: other_km?.[i], ...radii };
    return { id, answer, truth, ends, ...distances, band: bandOf(distances) };
  });
}

// Widths are in pixels; a dot's is the same for all. What belongs to a band can be hidden.
export function layersOf(world, images, bands, withLines) {
  const globe = pathOf({ type: "Sphere" });
  const byBand = group(images, ({ band }) => band);
  const ofBand = (band, layer) => ({ band, stroke: band.color, ...layer(byBand.get(band) ?? [], band) });
  const ofBands = (layer) => bands.map((band) => ofBand(band, layer));
  return [
    { path: globe, fill: "sea" },
    { path: pathOf(geoGraticule().step([30, 30])()), stroke: "grid", width: 0.8 },
    { path: pathOf(world.land), fill: "land" },
    { path: pathOf(world.borders), stroke: "border", width: 0.8 },
    { path: globe, stroke: "line", width: 0.8 },
    ...(withLines ? ofBands((some, { alpha }) => ({ path: linesOf(some), width: 1.1, alpha })) : []),
    ...ofBands((some, { alpha }) => ({ path: dotsOf(some), width: "dot", alpha: withLines ? 0.85 : alpha })),
    // Further out, rings about the answers would hide the dots.
    ...(withLines ? ofBands((some) => ({ rings: answersOf(some), gap: 1.2, width: 1.2, alpha: 0.85, fromZoom: 6 })) : []),
  ];
}

export const selectionOf = (image) => (image ? [{ rings: image.ends, gap: 3, width: 1.6, stroke: "ink" }] : []);

const withTruth = (images) => images.filter(({ truth }) => truth);
const answersOf = (images) => withTruth(images).map(({ ends }) => ends[1]);

function pathOf(geometry) {
  const path = new Path2D();
  geoPath(projection, path)(geometry);
  return path;
}

function linesOf(images) {
  const coordinates = withTruth(images).map(({ truth, answer }) => [lonlat(truth), lonlat(answer)]);
  return pathOf({ type: "MultiLineString", coordinates });
}

// Lines without length: their round caps are dots, of any size by the line's width.
function dotsOf(images) {
  const path = new Path2D();
  for (const { ends } of images) {
    path.moveTo(...ends[0]);
    path.lineTo(...ends[0]);
  }
  return path;
}
