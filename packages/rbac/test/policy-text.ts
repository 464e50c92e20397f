/** A small policy with every part of the format. */
export const POLICY = `version: 1
resources:
  camera: { actions: [view, configure] }
  recording: { actions: [view, control] }
  services: { actions: [read, update], scopes: [own, public] }
roles:
  viewer:
    allow: ['camera:view', 'recording:view', 'services:public:read']
  operator:
    inherits: [viewer]
    allow: ['recording:control']
  suspended:
    deny: ['camera:*']
  trainee:
    inherits: [suspended]
    allow: ['*:view']
  owner:
    allow: ['services:own:*']
  admin:
    inherits: [operator]
    allow: ['*:*']
environments:
  development: { aliases: [dev] }
  production:
    aliases: [prod]
    deny:
      - roles: [owner]
        permissions: ['services:own:update']
        reason: frozen
`

/** The policy with one piece of its text replaced. */
export function policyWith (piece: string, replacement: string): string {
  if (!POLICY.includes(piece)) throw new Error(`the policy does not hold ${piece}`)
  return POLICY.replace(piece, replacement)
}
