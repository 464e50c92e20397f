export type { RedisClient } from './client.js'
export { openRedis, type RedisConnection, type RedisHealth } from './connection.js'
export { withinDeadline } from './deadline.js'
export { RedisOptionInvalid, RedisUnavailable } from './errors.js'
export type {
  RedisClusterOptions, RedisCommonOptions, RedisNode, RedisOptions, RedisSentinelOptions, RedisSingleOptions,
  RedisTls, RedisUrlOptions
} from './options.js'
export { redisScript, type RedisScript, type ScriptArgument, type ScriptClient, type ScriptOptions } from './script.js'
