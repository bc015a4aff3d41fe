import { createMemoryStore } from '../../src/store/memory-store.ts';
import { testStoreContract } from './store-contract.ts';

testStoreContract('memory', async (options) => {
  const store = createMemoryStore(options);
  return { store, dispose: () => store.close() };
});
