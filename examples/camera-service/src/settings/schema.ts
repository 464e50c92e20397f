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
      description: 'What this installation is for. Only development offers the test pattern by itself.'
    }),
    data_dir: Type.String({
      default: './data',
      minLength: 1,
      description: "Folder for secrets, the library and MediaMTX's own files. Created with mode 0700."
    }),
    server: Type.Object(
      {
        host: Type.String({
          default: '127.0.0.1',
          minLength: 1,
          description: 'Address of HTTP, WebSocket, health and media ports. 0.0.0.0 opens them all to the network.'
        }),
        public_host: Type.String({
          default: '',
          description: 'Host name in the URLs given to clients. Empty: the address they are served from.'
        }),
        port: Type.Integer({ default: 8002, minimum: 0, maximum: 65535, description: 'HTTP and WebSocket.' }),
        websocket_path: Type.String({
          default: '/ws',
          pattern: '^/(?!(rpc|auth/me)$)[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$',
          description: 'Path of the JSON-RPC WebSocket.'
        }),
        max_connections: Type.Integer({
          default: 100,
          minimum: 1,
          maximum: 100000,
          description: 'WebSocket clients at once.'
        }),
        max_connections_per_address: Type.Integer({
          default: 10,
          minimum: 1,
          maximum: 100000,
          description: 'WebSocket clients at once from one address, or IPv6 /64.'
        }),
        authentication_timeout_seconds: Type.Number({
          default: 30,
          minimum: 1,
          maximum: 3600,
          description: 'A WebSocket client that has not signed in by then is disconnected.'
        }),
        allowed_origins: Type.Array(Type.String({ minLength: 1 }), {
          default: [],
          description: "Origins of other pages that may connect; the service's own page always may."
        }),
        trust_proxy: Type.Array(Type.String({ pattern: '^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$' }), {
          default: [],
          description:
            'Addresses and networks of proxies in front, such as 10.0.0.0/8, whose X-Forwarded-For says who is ' +
              'calling. Empty: nobody is believed.'
        }),
        stalled_client_seconds: Type.Number({
          default: 8,
          minimum: 1,
          maximum: 300,
          description:
            'A client that takes not a byte of its answer for this long, at most twice as long, is ' +
            'disconnected; slow ones whose bytes flow are not.'
        }),
        shutdown_timeout_seconds: Type.Number({
          default: 10,
          minimum: 1,
          maximum: 300,
          description: 'Longest orderly shutdown.'
        })
      },
      { additionalProperties: false, description: 'Where the service listens.' }
    ),
    health: Type.Object(
      {
        port: Type.Integer({ default: 8003, minimum: 0, maximum: 65535, description: 'Health endpoints.' }),
        ready_requires: Type.Array(
          Type.Union([
            Type.Literal('mediamtx'),
            Type.Literal('cameras'),
            Type.Literal('storage'),
            Type.Literal('ffmpeg')
          ]),
          {
            default: ['mediamtx', 'storage'],
            description: 'Components without which /health/ready says no.'
          }
        )
      },
      { additionalProperties: false, description: 'Health endpoints.' }
    ),
    security: Type.Object(
      {
        policy_file: Type.String({
          default: '',
          description: 'RBAC policy. Empty: the one that comes with the project.'
        }),
        policy_tests: Type.String({
          default: '',
          description:
            'Policy tests that a policy must pass before it is used. Empty: those that come with the project, for a ' +
              'policy of your own those beside it (NAME.test.yaml), if there are any.'
        }),
        policy_refuse_gain: Type.Boolean({
          default: true,
          description:
            'In production, a changed policy that grants more there than its tests state is not used until the next start.'
        }),
        jwt: Type.Object(
          {
            issuer: Type.String({ default: 'camera-service', minLength: 1, description: 'iss of the tokens.' }),
            audience: Type.String({ default: 'camera-service', minLength: 1, description: 'aud of the tokens.' }),
            secret_key: Type.String({
              default: '',
              secret: true,
              description: 'HS256 key, at least 32 bytes. Empty: made on the first start and kept in data_dir.'
            }),
            signing_keys_file: Type.String({
              default: '',
              description: 'Signing keys that rotate, made by "marty keys rotate-signing". Empty: secret_key signs.'
            }),
            expiry_seconds: Type.Integer({
              default: 900,
              minimum: 60,
              maximum: 86_400,
              description: 'Lifetime of a token unless its maker asks for another.'
            }),
            refresh_seconds: Type.Integer({
              default: 604_800,
              minimum: 0,
              maximum: 7_776_000,
              description: 'How long a refresh token lives unused; 0 for none.'
            })
          },
          { additionalProperties: false, description: 'JSON Web Tokens.' }
        ),
        api_keys: Type.Object(
          {
            storage_file: Type.String({ default: '', description: 'API keys. Empty: api-keys.json in data_dir.' })
          },
          { additionalProperties: false, description: 'API keys.' }
        ),
        sessions: Type.Object(
          {
            idle_seconds: Type.Integer({
              default: 1_800,
              minimum: 60,
              maximum: 2_592_000,
              description: 'A session nobody uses ends after this.'
            }),
            max_seconds: Type.Integer({
              default: 43_200,
              minimum: 3_600,
              maximum: 31_536_000,
              description: 'A session ends after this, however busy.'
            })
          },
          { additionalProperties: false, description: 'Sessions of the page and of other browsers.' }
        ),
        rate_limiting: Type.Object(
          {
            requests_per_minute: Type.Object(
              {
                default: Type.Integer({
                  default: 60,
                  minimum: 1,
                  description: 'Callers without a role named here, by address.'
                }),
                viewer: Type.Integer({ default: 60, minimum: 1, description: 'Viewers.' }),
                operator: Type.Integer({ default: 120, minimum: 1, description: 'Operators.' }),
                admin: Type.Integer({ default: 300, minimum: 1, description: 'Administrators.' })
              },
              { additionalProperties: false, description: 'Calls a minute, in any sliding window.' }
            ),
            failed_logins_per_5_minutes: Type.Integer({
              default: 20,
              minimum: 1,
              description: 'Failed authentications from one address.'
            })
          },
          { additionalProperties: false, description: 'Rate limits.' }
        ),
        ssl: Type.Object(
          {
            enabled: Type.Boolean({ default: false, description: 'Serve https and wss (TLS 1.3).' }),
            cert_file: Type.String({ default: '', description: 'Certificate chain, PEM.' }),
            key_file: Type.String({ default: '', description: 'Private key, PEM.' }),
            hsts: Type.Boolean({
              default: true,
              description:
                'In production, tell browsers to use https alone for this host name (two years). That covers every ' +
                  'port of the name: ' +
                'its plain health port too.'
            }),
            handshakes_per_minute: Type.Integer({
              default: 600,
              minimum: 10,
              maximum: 1_000_000,
              description: 'TLS handshakes that one address may begin in a minute; a tenth of it at once.'
            })
          },
          { additionalProperties: false, description: 'TLS of the HTTP and WebSocket port.' }
        ),
        audit: Type.Object(
          {
            file: Type.String({ default: '', description: 'Audit log. Empty: audit.log in data_dir.' }),
            keep_seconds: Type.Integer({
              default: 31_536_000,
              minimum: 86_400,
              maximum: 3_153_600_000,
              description: 'Older files of the log are removed.'
            })
          },
          { additionalProperties: false, description: 'Audit log.' }
        )
      },
      { additionalProperties: false, description: 'Who may do what, how often.' }
    ),
    redis: Type.Object(
      {
        url: Type.String({
          default: '',
          secret: true,
          description:
            'redis:// or rediss:// URL, for several instances. Empty: limits, sessions and revocations are kept in memory.'
        })
      },
      { additionalProperties: false, description: 'Shared state of several instances.' }
    ),
    mediamtx: Type.Object(
      {
        binary: Type.String({
          default: '',
          description: 'The MediaMTX program. Empty: MEDIAMTX_BIN, then the search path, then the one setup got.'
        }),
        rtsp_port: Type.Integer({ default: 8554, minimum: 1, maximum: 65535, description: 'RTSP.' }),
        hls_port: Type.Integer({ default: 8888, minimum: 1, maximum: 65535, description: 'HLS.' }),
        webrtc_port: Type.Integer({
          default: 8889,
          minimum: 1,
          maximum: 65535,
          description: 'WebRTC signalling (WHEP).'
        }),
        webrtc_udp_port: Type.Integer({ default: 8189, minimum: 1, maximum: 65535, description: 'WebRTC media.' }),
        api_port: Type.Integer({ default: 9997, minimum: 1, maximum: 65535, description: 'Control API, on loopback.' }),
        metrics_port: Type.Integer({ default: 9998, minimum: 1, maximum: 65535, description: 'Metrics, on loopback.' }),
        playback_port: Type.Integer({
          default: 9996,
          minimum: 1,
          maximum: 65535,
          description: 'Playback, on loopback.'
        }),
        auth_port: Type.Integer({
          default: 8004,
          minimum: 0,
          maximum: 65535,
          description: 'Where MediaMTX asks this service who may do what, on loopback.'
        }),
        stream_token_seconds: Type.Integer({
          default: 120,
          minimum: 5,
          maximum: 3600,
          description: 'Time to start watching with a stream URL.'
        })
      },
      { additionalProperties: false, description: 'The media server.' }
    ),
    cameras: Type.Object(
      {
        v4l2: Type.Boolean({ default: true, description: 'Look for local cameras.' }),
        poll_interval_seconds: Type.Number({
          default: 2,
          minimum: 0.2,
          maximum: 60,
          description: "How often cameras are looked for, besides the kernel's own notices."
        }),
        test_pattern: Type.Union([Type.Literal('auto'), Type.Literal('always'), Type.Literal('never')], {
          default: 'auto',
          description: 'A camera made by ffmpeg. auto: in development, while no real camera is found.'
        }),
        network: Type.Array(
          Type.Object(
            {
              name: Type.String({ minLength: 1, maxLength: 100, description: 'Name shown to people.' }),
              url: Type.String({
                pattern: RTSP_URL,
                secret: true,
                description:
                  'rtsp:// or rtsps:// URL; it may carry user and password, percent-encoded where they hold ' +
                    'anything but letters, digits and ._~-'
              })
            },
            { additionalProperties: false }
          ),
          { default: [], description: 'Network cameras.' }
        )
      },
      { additionalProperties: false, description: 'Where cameras come from.' }
    ),
    recording: Type.Object(
      {
        folder: Type.String({ default: '', description: 'Empty: recordings in data_dir.' }),
        max_duration_seconds: Type.Integer({
          default: 86400,
          minimum: 1,
          maximum: 86400,
          description: 'Longest duration a caller may ask for.'
        })
      },
      { additionalProperties: false, description: 'Recordings.' }
    ),
    snapshots: Type.Object(
      {
        folder: Type.String({ default: '', description: 'Empty: snapshots in data_dir.' }),
        timeout_seconds: Type.Number({
          default: 10,
          minimum: 1,
          maximum: 60,
          description: 'Longest wait for a picture.'
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
          description: 'Use of the disk from which health says degraded.'
        }),
        block_percent: Type.Number({
          default: 90,
          minimum: 1,
          maximum: 100,
          description: 'Use of the disk from which nothing more is stored.'
        })
      },
      { additionalProperties: false, description: 'Disk space.' }
    ),
    ffmpeg: Type.Object(
      {
        ffmpeg: Type.String({ default: 'ffmpeg', minLength: 1, description: 'The ffmpeg program.' }),
        ffprobe: Type.String({ default: 'ffprobe', minLength: 1, description: 'The ffprobe program.' })
      },
      { additionalProperties: false, description: 'ffmpeg.' }
    ),
    logging: Type.Object(
      {
        level: Type.Union(
          ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'].map(level => Type.Literal(level)),
          { default: 'info', description: 'Least severe level that is written.' }
        )
      },
      { additionalProperties: false, description: 'Log.' }
    )
  },
  { additionalProperties: false }
)

export type CameraServiceConfig = Static<typeof configSchema>
