import { Type, type Static } from 'typebox'

// The URLs that MediaMTX accepts (RFC 3986). All other characters in a user or password must be percent-encoded.
const UNRESERVED = "(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
const CREDENTIALS = `(?:${UNRESERVED}+(?::${UNRESERVED}*)?@)?`
const HOST = '(?:[A-Za-z0-9.-]+|\\[[0-9A-Fa-f:.]+\\])'
/** 1 to 65535. */
const PORT = '(?:[1-9]\\d{0,3}|[1-5]\\d{4}|6[0-4]\\d{3}|65[0-4]\\d{2}|655[0-2]\\d|6553[0-5])'
const RTSP_URL = `^rtsps?://${CREDENTIALS}${HOST}(?::${PORT})?(?:/(?:${UNRESERVED}|[:@/?])*)?$`

/** All settings of `camera-service.yaml`. The defaults apply without the file; the file repeats them with comments. */
export const configSchema = Type.Object(
  {
    environment: Type.Union([Type.Literal('development'), Type.Literal('staging'), Type.Literal('production')], {
      default: 'development',
      description: 'What this installation is for. In development, the test pattern is offered by default.'
    }),
    data_dir: Type.String({
      default: './data',
      minLength: 1,
      description: 'Folder for secrets, the library and files of MediaMTX. Created with mode 0700.'
    }),
    server: Type.Object(
      {
        host: Type.String({
          default: '127.0.0.1',
          minLength: 1,
          description: 'Address on which all ports listen. 0.0.0.0 opens the HTTP, WebSocket, health and media ports to the network.'
        }),
        public_host: Type.String({
          default: '',
          description: 'Host name in the URLs that clients receive. Empty: the address on which the service listens.'
        }),
        port: Type.Integer({ default: 8002, minimum: 0, maximum: 65535, description: 'Port of HTTP and WebSocket.' }),
        websocket_path: Type.String({
          default: '/ws',
          pattern: '^/(?!(rpc|auth/me)$)[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$',
          description: 'Path of the JSON-RPC WebSocket.'
        }),
        max_connections: Type.Integer({
          default: 100,
          minimum: 1,
          maximum: 100000,
          description: 'Maximum number of simultaneous WebSocket clients.'
        }),
        max_connections_per_address: Type.Integer({
          default: 10,
          minimum: 1,
          maximum: 100000,
          description: 'Maximum number of simultaneous WebSocket clients from one address, or from one IPv6 /64.'
        }),
        authentication_timeout_seconds: Type.Number({
          default: 30,
          minimum: 1,
          maximum: 3600,
          description: 'Time in which a WebSocket client must sign in. After it, the client is disconnected.'
        }),
        allowed_origins: Type.Array(Type.String({ minLength: 1 }), {
          default: [],
          description: 'Origins of other pages that may connect. The page of the service itself always may.'
        }),
        trust_proxy: Type.Array(Type.String({ pattern: '^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$' }), {
          default: [],
          description:
            'Addresses and networks of reverse proxies, such as 10.0.0.0/8, whose X-Forwarded-For header is trusted. ' +
              'Empty: no proxy is trusted.'
        }),
        stalled_client_seconds: Type.Number({
          default: 8,
          minimum: 1,
          maximum: 300,
          description:
            'A client that accepts no byte of a response for this long (at most twice as long) is disconnected. A slow ' +
              'client that still accepts bytes is not.'
        }),
        shutdown_timeout_seconds: Type.Number({
          default: 10,
          minimum: 1,
          maximum: 300,
          description: 'Maximum duration of a shutdown. After it, the service ends at once.'
        })
      },
      { additionalProperties: false, description: 'Where the service listens.' }
    ),
    health: Type.Object(
      {
        port: Type.Integer({ default: 8003, minimum: 0, maximum: 65535, description: 'Port of the health endpoints.' }),
        ready_requires: Type.Array(
          Type.Union([
            Type.Literal('mediamtx'),
            Type.Literal('cameras'),
            Type.Literal('storage'),
            Type.Literal('ffmpeg')
          ]),
          {
            default: ['mediamtx', 'storage'],
            description: 'Components that must be healthy for /health/ready to report ready.'
          }
        )
      },
      { additionalProperties: false, description: 'Health endpoints.' }
    ),
    security: Type.Object(
      {
        policy_file: Type.String({
          default: '',
          description: 'File with the RBAC policy. Empty: the policy of the project.'
        }),
        policy_tests: Type.String({
          default: '',
          description:
            'File with the tests that a policy must pass before it is used. Empty: NAME.test.yaml beside the policy, ' +
              'if it exists.'
        }),
        policy_refuse_gain: Type.Boolean({
          default: true,
          description:
            'In production, a changed policy that grants more than its tests state is used only from the next start on.'
        }),
        jwt: Type.Object(
          {
            issuer: Type.String({ default: 'camera-service', minLength: 1, description: 'Issuer of the tokens (claim iss).' }),
            audience: Type.String({ default: 'camera-service', minLength: 1, description: 'Audience of the tokens (claim aud).' }),
            secret_key: Type.String({
              default: '',
              secret: true,
              description: 'HS256 key, at least 32 bytes. Empty: the first start generates a key and stores it in data_dir.'
            }),
            signing_keys_file: Type.String({
              default: '',
              description: 'File of rotating signing keys, created by "marty keys rotate-signing". Empty: secret_key signs.'
            }),
            expiry_seconds: Type.Integer({
              default: 900,
              minimum: 60,
              maximum: 86_400,
              description: 'Lifetime of an access token, unless another one is requested.'
            }),
            refresh_seconds: Type.Integer({
              default: 604_800,
              minimum: 0,
              maximum: 7_776_000,
              description: 'A refresh token that is not used for this long expires. 0: no refresh tokens.'
            })
          },
          { additionalProperties: false, description: 'JSON Web Tokens.' }
        ),
        api_keys: Type.Object(
          {
            storage_file: Type.String({ default: '', description: 'File that stores the API keys. Empty: api-keys.json in data_dir.' })
          },
          { additionalProperties: false, description: 'API keys.' }
        ),
        sessions: Type.Object(
          {
            idle_seconds: Type.Integer({
              default: 1_800,
              minimum: 60,
              maximum: 2_592_000,
              description: 'A session that is not used for this long ends.'
            }),
            max_seconds: Type.Integer({
              default: 43_200,
              minimum: 3_600,
              maximum: 31_536_000,
              description: 'Every session ends after this time, even if it is in use.'
            })
          },
          { additionalProperties: false, description: 'Browser sessions.' }
        ),
        rate_limiting: Type.Object(
          {
            requests_per_minute: Type.Object(
              {
                default: Type.Integer({
                  default: 60,
                  minimum: 1,
                  description: 'Callers without one of the roles below. They are counted by address.'
                }),
                viewer: Type.Integer({ default: 60, minimum: 1, description: 'Viewers.' }),
                operator: Type.Integer({ default: 120, minimum: 1, description: 'Operators.' }),
                admin: Type.Integer({ default: 300, minimum: 1, description: 'Administrators.' })
              },
              { additionalProperties: false, description: 'Maximum number of calls per minute (sliding window) for each caller, by role.' }
            ),
            failed_logins_per_5_minutes: Type.Integer({
              default: 20,
              minimum: 1,
              description: 'Maximum number of failed authentications from one address.'
            })
          },
          { additionalProperties: false, description: 'Rate limits.' }
        ),
        ssl: Type.Object(
          {
            enabled: Type.Boolean({ default: false, description: 'Whether the service uses https and wss (TLS 1.3).' }),
            cert_file: Type.String({
              default: '',
              description: 'File with the certificate chain, in PEM. The certificate of the service comes first.'
            }),
            key_file: Type.String({ default: '', description: 'File with the private key, in PEM.' }),
            hsts: Type.Boolean({
              default: true,
              description:
                'In production, tells browsers to use only https for this host name, for two years. This also applies ' +
                  'to its other ports, such as the health port, which has no TLS.'
            }),
            handshakes_per_minute: Type.Integer({
              default: 600,
              minimum: 10,
              maximum: 1_000_000,
              description: 'TLS handshakes that one address may start per minute. A tenth of them may come in one burst.'
            })
          },
          { additionalProperties: false, description: 'TLS of the HTTP and WebSocket port.' }
        ),
        audit: Type.Object(
          {
            file: Type.String({ default: '', description: 'File of the audit log. Empty: audit.log in data_dir.' }),
            keep_seconds: Type.Integer({
              default: 31_536_000,
              minimum: 86_400,
              maximum: 3_153_600_000,
              description: 'Older files of the log are deleted.'
            })
          },
          { additionalProperties: false, description: 'Audit log.' }
        )
      },
      { additionalProperties: false, description: 'Authentication, authorization and limits.' }
    ),
    redis: Type.Object(
      {
        url: Type.String({
          default: '',
          secret: true,
          description:
            'redis:// or rediss:// URL, needed for several instances. Empty: limits, sessions and revocations are kept in ' +
              'memory.'
        })
      },
      { additionalProperties: false, description: 'State that several instances share.' }
    ),
    mediamtx: Type.Object(
      {
        binary: Type.String({
          default: '',
          description: 'Path of the MediaMTX program. Empty: MEDIAMTX_BIN, then PATH, then the program that setup installed.'
        }),
        rtsp_port: Type.Integer({ default: 8554, minimum: 1, maximum: 65535, description: 'Port of RTSP.' }),
        hls_port: Type.Integer({ default: 8888, minimum: 1, maximum: 65535, description: 'Port of HLS.' }),
        webrtc_port: Type.Integer({
          default: 8889,
          minimum: 1,
          maximum: 65535,
          description: 'Port of WebRTC signalling (WHEP).'
        }),
        webrtc_udp_port: Type.Integer({ default: 8189, minimum: 1, maximum: 65535, description: 'UDP port of WebRTC media.' }),
        api_port: Type.Integer({ default: 9997, minimum: 1, maximum: 65535, description: 'Port of the Control API, on loopback.' }),
        metrics_port: Type.Integer({ default: 9998, minimum: 1, maximum: 65535, description: 'Port of the metrics, on loopback.' }),
        playback_port: Type.Integer({
          default: 9996,
          minimum: 1,
          maximum: 65535,
          description: 'Port of playback, on loopback.'
        }),
        auth_port: Type.Integer({
          default: 8004,
          minimum: 0,
          maximum: 65535,
          description: 'Port to which MediaMTX sends its authentication requests, on loopback.'
        }),
        stream_token_seconds: Type.Integer({
          default: 120,
          minimum: 5,
          maximum: 3600,
          description: 'Time in which a viewer must start watching after receiving a stream URL.'
        })
      },
      { additionalProperties: false, description: 'The media server.' }
    ),
    cameras: Type.Object(
      {
        v4l2: Type.Boolean({ default: true, description: 'Whether local cameras are searched for.' }),
        poll_interval_seconds: Type.Number({
          default: 2,
          minimum: 0.2,
          maximum: 60,
          description: 'Time between two searches for cameras. Changes that the kernel reports start a search immediately.'
        }),
        test_pattern: Type.Union([Type.Literal('auto'), Type.Literal('always'), Type.Literal('never')], {
          default: 'auto',
          description: 'A camera that ffmpeg simulates. auto: in development, until a real camera is found.'
        }),
        network: Type.Array(
          Type.Object(
            {
              name: Type.String({ minLength: 1, maxLength: 100, description: 'Name that users see.' }),
              url: Type.String({
                pattern: RTSP_URL,
                secret: true,
                description:
                  'rtsp:// or rtsps:// URL. It may contain a user and a password, in which all characters except ' +
                    'letters, digits and ._~- must be percent-encoded'
              })
            },
            { additionalProperties: false }
          ),
          { default: [], description: 'Network cameras, each with a name and a URL.' }
        )
      },
      { additionalProperties: false, description: 'Which cameras are used.' }
    ),
    recording: Type.Object(
      {
        folder: Type.String({ default: '', description: 'Folder of the recordings. Empty: recordings in data_dir.' }),
        max_duration_seconds: Type.Integer({
          default: 86400,
          minimum: 1,
          maximum: 86400,
          description: 'Maximum duration that a caller may request.'
        })
      },
      { additionalProperties: false, description: 'Recordings.' }
    ),
    snapshots: Type.Object(
      {
        folder: Type.String({ default: '', description: 'Folder of the snapshots. Empty: snapshots in data_dir.' }),
        timeout_seconds: Type.Number({
          default: 10,
          minimum: 1,
          maximum: 60,
          description: 'Maximum time to wait for a picture.'
        })
      },
      { additionalProperties: false, description: 'Snapshots.' }
    ),
    storage: Type.Object(
      {
        warn_percent: Type.Number({
          default: 80,
          minimum: 1,
          maximum: 100,
          description: 'Disk usage from which on health reports degraded.'
        }),
        block_percent: Type.Number({
          default: 90,
          minimum: 1,
          maximum: 100,
          description: 'Disk usage from which on nothing is stored and recordings end.'
        })
      },
      { additionalProperties: false, description: 'Disk space.' }
    ),
    ffmpeg: Type.Object(
      {
        ffmpeg: Type.String({ default: 'ffmpeg', minLength: 1, description: 'Name or path of the ffmpeg program.' }),
        ffprobe: Type.String({ default: 'ffprobe', minLength: 1, description: 'Name or path of the ffprobe program.' })
      },
      { additionalProperties: false, description: 'The ffmpeg programs.' }
    ),
    logging: Type.Object(
      {
        level: Type.Union(
          ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'].map(level => Type.Literal(level)),
          { default: 'info', description: 'Least severe level that is logged.' }
        )
      },
      { additionalProperties: false, description: 'Log.' }
    )
  },
  { additionalProperties: false }
)

export type CameraServiceConfig = Static<typeof configSchema>
