import { checkOptions, type OptionScope, type OptionTable } from '@marty/core'
import { createPublicKey, KeyObject } from 'node:crypto'
import { keyIdOf } from '../checkpoints/checkpoint.js'
import type { PublicKeys } from '../checkpoints/checkpoint-verifier.js'
import { AuditOptionInvalid } from '../errors.js'
import type { VerifyOptions } from './verification.js'

export interface ResolvedVerifyOptions extends Pick<CheckedOptions, 'checkpointsFile' | 'checkpoints' | 'acceptUnproven'> {
  readonly keys: PublicKeys
}

type Defaulted = 'checkpoints' | 'acceptUnproven'
type CheckedOptions = Required<Pick<VerifyOptions, Defaulted>> & {
  readonly publicKey: VerifyOptions['publicKey']
  readonly checkpointsFile: string | undefined
}

const SCOPE: OptionScope = { subject: 'verifyAuditLog', refuse: message => new AuditOptionInvalid(message) }

export const VERIFY_OPTIONS: OptionTable<VerifyOptions, CheckedOptions> = {
  publicKey: {
    kind: 'custom',
    expected: 'an Ed25519 public key, as a KeyObject or PEM, or a list of them',
    accepts: value => publicKeysOf(value) !== null,
    secret: true,
    optional: true,
    about: 'The keys that verify the checkpoints. Without a key, nothing is proven.'
  },
  checkpointsFile: {
    kind: 'string',
    expected: 'the path of a file',
    optional: true,
    defaultText: '`<log>.heads`',
    about: 'The file of the checkpoints.'
  },
  checkpoints: {
    kind: 'custom',
    expected: 'a list of signed checkpoints',
    accepts: Array.isArray,
    default: [],
    about: 'Checkpoints that were stored elsewhere.'
  },
  acceptUnproven: {
    kind: 'list',
    items: { kind: 'string', expected: 'a hash' },
    default: [],
    about: '`lastHash` of unproven ranges that have been investigated: they are listed, but are not a fault.'
  }
}

/**
 * Checks the options and fills in the defaults. Throws `MARTY_AUDIT_OPT_INVALID` naming the field: a misspelt option
 * would otherwise verify the log with less evidence than the caller has.
 */
export function resolveVerifyOptions (options: VerifyOptions): ResolvedVerifyOptions {
  const { publicKey = [], ...others } = checkOptions(VERIFY_OPTIONS, options, SCOPE)
  return { ...others, keys: new Map(publicKeysOf(publicKey)!.map(key => [keyIdOf(key), key])) }
}

/** Null when one of them is not an Ed25519 key. For a private key, the public key that belongs to it. */
function publicKeysOf (given: unknown): KeyObject[] | null {
  try {
    const keys = [given].flat().map(publicKeyOf)
    return keys.every(key => key.asymmetricKeyType === 'ed25519') ? keys : null
  } catch {
    return null
  }
}

function publicKeyOf (key: unknown): KeyObject {
  return key instanceof KeyObject && key.type !== 'private' ? key : createPublicKey(key as KeyObject)
}
