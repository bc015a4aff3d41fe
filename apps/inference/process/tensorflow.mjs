/** TensorFlow.js on the CPU, in plain JavaScript: the parts that a dense network needs, without its greeting on stderr. */
import * as core from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import * as layers from '@tensorflow/tfjs-layers';

core.enableProdMode();
await core.setBackend('cpu');

/** Tensors and their memory. */
export { core, layers };
