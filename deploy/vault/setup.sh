#!/usr/bin/env bash
# Prepare a Vault or OpenBao for meshca: a PKI mount with a root, the least policy, one way to log
# in. Prints the `upstream:` of meshca.yaml. Running it again changes nothing that is there: a mount
# that has an issuer keeps it.
#
#   TRUST_DOMAIN=example.org AUTH=approle deploy/vault/setup.sh
#
# Needs the vault or bao command, its address and a token that may do this (VAULT_ADDR, VAULT_TOKEN
# or BAO_ADDR, BAO_TOKEN). Settings, all from the environment:
#
#   TRUST_DOMAIN    required
#   TTL             lifetime of the intermediate, in whole hours as 168h     (168h)
#   PKI_MOUNT       mount that signs it                                      (pki)
#   ISSUER          its issuer: default, or a name to pin                    (default)
#   ROOT_TTL        lifetime of a root that is made here                     (87600h)
#   AUTH            approle, kubernetes, jwt or token                        (approle)
#   ROLE            name of the policy and of the role                       (meshca)
#   NAMESPACE, SERVICE_ACCOUNT   whose tokens kubernetes and jwt accept      (meshca, meshca)
#   AUDIENCE        audience of those tokens                                 (vault)
#   KEY_NAME        for vault_transit: the key, one for each replica         (none)
#   AT_REST_KEY     for key_at_rest: the key that wraps ours                 (none)
#   TRANSIT_MOUNT   mount of both                                            (transit)
#   REVOKE          yes: may revoke what the mount has signed                (no)
set -euo pipefail

: "${TRUST_DOMAIN:?set TRUST_DOMAIN, like example.org}"
TTL=${TTL:-168h}
PKI_MOUNT=${PKI_MOUNT:-pki}
ISSUER=${ISSUER:-default}
ROOT_TTL=${ROOT_TTL:-87600h}
AUTH=${AUTH:-approle}
ROLE=${ROLE:-meshca}
NAMESPACE=${NAMESPACE:-meshca}
SERVICE_ACCOUNT=${SERVICE_ACCOUNT:-meshca}
AUDIENCE=${AUDIENCE:-vault}
KEY_NAME=${KEY_NAME:-}
AT_REST_KEY=${AT_REST_KEY:-}
TRANSIT_MOUNT=${TRANSIT_MOUNT:-transit}
REVOKE=${REVOKE:-no}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cli=$(command -v vault || command -v bao) || { echo "neither vault nor bao is installed" >&2; exit 2; }

say() { echo "$*" >&2; }

mounted() { "$cli" "$1" list -format=json | grep "\"$2/\":" >/dev/null; }

pki() {
  if ! mounted secrets "$PKI_MOUNT"; then
    say "enabling PKI at $PKI_MOUNT"
    "$cli" secrets enable -path="$PKI_MOUNT" -max-lease-ttl="$ROOT_TTL" pki >&2
    # So that Vault's audit log and ours can be joined.
    "$cli" secrets tune -audit-non-hmac-request-keys=common_name \
      -audit-non-hmac-request-keys=uri_sans -audit-non-hmac-request-keys=ttl \
      -audit-non-hmac-response-keys=serial_number "$PKI_MOUNT" >&2
  fi
  if "$cli" list "$PKI_MOUNT/issuers" >/dev/null 2>&1; then
    say "$PKI_MOUNT has an issuer: it is kept"
    return
  fi
  # Path length 2: its successor, cross-signed, and an intermediate can stand below it.
  say "making a root in $PKI_MOUNT: its key never leaves Vault"
  "$cli" write -field=certificate "$PKI_MOUNT/root/generate/internal" \
    common_name="$TRUST_DOMAIN root" uri_sans="spiffe://$TRUST_DOMAIN" exclude_cn_from_sans=true \
    key_type=ec key_bits=256 max_path_length=2 ttl="$ROOT_TTL" >&2
  say
  # A root that is added later must not sign before every proxy trusts it.
  "$cli" write "$PKI_MOUNT/config/issuers" \
    default="$("$cli" read -field=issuer_id "$PKI_MOUNT/issuer/default")" \
    default_follows_latest_issuer=false >&2
}

transit() { # NAME TYPE
  mounted secrets "$TRANSIT_MOUNT" || "$cli" secrets enable -path="$TRANSIT_MOUNT" transit >&2
  "$cli" read "$TRANSIT_MOUNT/keys/$1" >/dev/null 2>&1 && return
  say "making key $1 in $TRANSIT_MOUNT"
  "$cli" write "$TRANSIT_MOUNT/keys/$1" type="$2" >/dev/null
}

policy() {
  local sign_path="$PKI_MOUNT/root/sign-intermediate"
  [ "$ISSUER" = default ] || sign_path="$PKI_MOUNT/issuer/$ISSUER/sign-intermediate"
  local templates=("$here/pki.hcl.tmpl")
  [ -z "$KEY_NAME" ] || templates+=("$here/transit.hcl.tmpl")
  [ -z "$AT_REST_KEY" ] || templates+=("$here/at-rest.hcl.tmpl")
  [ "$REVOKE" = no ] || templates+=("$here/revoke.hcl.tmpl")
  sed -e "s|@SIGN_PATH@|$sign_path|g" -e "s|@TRUST_DOMAIN@|$TRUST_DOMAIN|g" -e "s|@TTL@|$TTL|g" \
    -e "s|@TRANSIT_MOUNT@|$TRANSIT_MOUNT|g" -e "s|@KEY_NAME@|$KEY_NAME|g" \
    -e "s|@AT_REST_KEY@|$AT_REST_KEY|g" -e "s|@PKI_MOUNT@|$PKI_MOUNT|g" "${templates[@]}" |
    "$cli" policy write "$ROLE" - >&2
}

TOKEN=(token_policies="$ROLE" token_no_default_policy=true token_ttl=20m token_max_ttl=24h)

approle() {
  mounted auth approle || "$cli" auth enable approle >&2
  "$cli" write "auth/approle/role/$ROLE" "${TOKEN[@]}" bind_secret_id=true >&2
  say "now, and again before each restart, bring a wrapped secret id to the server:"
  say "  $(basename "$cli") write -wrap-ttl=10m -force -field=wrapping_token auth/approle/role/$ROLE/secret-id"
  echo "  auth: {method: approle, role_id: $("$cli" read -field=role_id "auth/approle/role/$ROLE/role-id"), secret_id_file: vault-secret-id, wrapped: true}"
}

kubernetes() {
  mounted auth kubernetes || "$cli" auth enable kubernetes >&2
  "$cli" write "auth/kubernetes/role/$ROLE" "${TOKEN[@]}" audience="$AUDIENCE" \
    bound_service_account_names="$SERVICE_ACCOUNT" \
    bound_service_account_namespaces="$NAMESPACE" >&2
  say "if you have not yet: write auth/kubernetes/config (kubernetes_host, kubernetes_ca_cert)"
  echo "  auth: {method: kubernetes, role: $ROLE, token_file: /var/run/secrets/vault/token}"
}

jwt() {
  mounted auth jwt || "$cli" auth enable jwt >&2
  "$cli" write "auth/jwt/role/$ROLE" "${TOKEN[@]}" role_type=jwt user_claim=sub \
    bound_audiences="$AUDIENCE" \
    bound_subject="system:serviceaccount:$NAMESPACE:$SERVICE_ACCOUNT" >&2
  say "if you have not yet: write auth/jwt/config (jwks_url, or jwt_validation_pubkeys)"
  echo "  auth: {method: jwt, role: $ROLE, token_file: /var/run/secrets/vault/token}"
}

token() {
  say "now bring a token to the server; meshca renews it within its period:"
  say "  $(basename "$cli") token create -orphan -no-default-policy -policy=$ROLE -period=24h -field=token"
  echo "  auth: {method: token, token_file: vault-token}"
}

case "$AUTH" in
  approle | kubernetes | jwt | token) ;;
  *) echo "AUTH is $AUTH: approle, kubernetes, jwt or token" >&2; exit 2 ;;
esac

case "$REVOKE" in
  yes | no) ;;
  *) echo "REVOKE is $REVOKE: yes or no" >&2; exit 2 ;;
esac

pki
[ -z "$KEY_NAME" ] || transit "$KEY_NAME" ecdsa-p256
[ -z "$AT_REST_KEY" ] || transit "$AT_REST_KEY" aes256-gcm96
policy
echo "upstream:"
if [ -z "$KEY_NAME" ]; then
  echo "  kind: vault"
else
  echo "  kind: vault_transit"
  echo "  transit_mount: $TRANSIT_MOUNT"
  echo "  key_name: $KEY_NAME"
fi
echo "  address: ${VAULT_ADDR:-${BAO_ADDR:-https://127.0.0.1:8200}}"
echo "  mount: $PKI_MOUNT"
echo "  issuer: $ISSUER"
echo "  ttl: $TTL"
"$AUTH"
