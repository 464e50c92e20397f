/** The stores for `@fastify/rate-limit` alone. Loads neither Fastify nor a Redis client. */
export {
  SlidingWindowStore,
  slidingWindowStore,
  type SlidingWindowStoreOptions
} from './sliding-window-store.js'
export type { SlidingWindowStoreConstructor, SlidingWindowStoreInstance } from './store.js'
