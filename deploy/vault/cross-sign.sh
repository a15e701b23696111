#!/usr/bin/env bash
# Cross-sign a new root with the old one, so that who knows only the old root can verify what is
# signed under the new one. Both are issuers of one PKI mount. The bridge becomes an issuer too, one
# that may sign nothing; meshca finds it there, within half a minute.
#
#   TRUST_DOMAIN=example.org deploy/vault/cross-sign.sh OLD_ISSUER NEW_ISSUER
#
# For whoever owns the roots: meshca has no part in it, and no policy of setup.sh allows it. Needs
# openssl, the vault or bao command, its address and a token (VAULT_ADDR, VAULT_TOKEN or BAO_ADDR,
# BAO_TOKEN). Settings, all from the environment:
#
#   TRUST_DOMAIN    required
#   TTL             lifetime of the bridge, in whole hours as 2160h; the old root must outlive it,
#                   and so must the new one                                  (2160h)
#   PKI_MOUNT       mount of both roots                                      (pki)
#
# Run it again for another bridge. When the old root is out of every bundle, delete this issuer.
set -euo pipefail

: "${TRUST_DOMAIN:?set TRUST_DOMAIN, like example.org}"
TTL=${TTL:-2160h}
PKI_MOUNT=${PKI_MOUNT:-pki}
[ $# -eq 2 ] || { echo "usage: cross-sign.sh OLD_ISSUER NEW_ISSUER" >&2; exit 2; }
old=$1
new=$2

cli=$(command -v vault || command -v bao) || { echo "neither vault nor bao is installed" >&2; exit 2; }
command -v openssl >/dev/null || { echo "openssl is not installed" >&2; exit 2; }

say() { echo "$*" >&2; }
fail() { say "$*"; exit 1; }

certificate() { "$cli" read -field=certificate "$PKI_MOUNT/issuer/$1"; }

show() { openssl x509 -noout "$@"; } # of the certificate on standard input

# What must be the same in the bridge as in the root that it stands for, to the letter.
identity() { # x509 or req
  local pem
  pem=$(cat)
  openssl "$1" -noout -subject -nameopt RFC2253,show_type <<<"$pem"
  openssl "$1" -noout -pubkey <<<"$pem"
}

[[ $TTL =~ ^[1-9][0-9]{0,5}h$ ]] || fail "TTL is $TTL: whole hours, as 2160h"
old_root=$(certificate "$old")
new_root=$(certificate "$new")

limit=$(show -ext basicConstraints <<<"$old_root" | sed -n 's/.*pathlen://p')
if [ -n "$limit" ] && [ "$limit" -lt 2 ]; then
  fail "$old has path length $limit: a bridge and an intermediate do not fit below it"
fi
for root in "$old_root" "$new_root"; do
  show -checkend "$((${TTL%h} * 3600))" <<<"$root" >/dev/null ||
    fail "$(show -subject <<<"$root") ends within $TTL: choose a shorter TTL"
done

# The subject, field by field: Vault builds it from parameters.
subject=()
while IFS='=' read -r name value; do
  name=${name//[[:space:]]/}
  value=${value# }
  case $name in
    commonName) subject+=("common_name=$value") ;;
    organizationName) subject+=("organization=$value") ;;
    organizationalUnitName) subject+=("ou=$value") ;;
    countryName) subject+=("country=$value") ;;
    localityName) subject+=("locality=$value") ;;
    stateOrProvinceName) subject+=("province=$value") ;;
    streetAddress) subject+=("street_address=$value") ;;
    postalCode) subject+=("postal_code=$value") ;;
    serialNumber) subject+=("serial_number=$value") ;;
    *) fail "the subject of $new has a $name: such a root cannot be cross-signed by Vault" ;;
  esac
done < <(show -subject -nameopt sep_multiline,utf8,lname,space_eq <<<"$new_root" | tail -n +2)

# Verifiers find the issuer of an intermediate by this identifier: it must be the root's.
key_id=$(show -ext subjectKeyIdentifier <<<"$new_root" | tail -n 1 | tr -d '[:space:]')

say "asking $new for a request with its key"
csr=$("$cli" write -field=csr "$PKI_MOUNT/intermediate/cross-sign" "${subject[@]}" \
  key_ref="$("$cli" read -field=key_id "$PKI_MOUNT/issuer/$new")")
[ "$(identity req <<<"$csr")" = "$(identity x509 <<<"$new_root")" ] ||
  fail "Vault cannot repeat the subject of $new: $(show -subject <<<"$new_root")"
say "having $old sign it for $TTL"
bridge=$("$cli" write -field=certificate "$PKI_MOUNT/issuer/$old/sign-intermediate" "${subject[@]}" \
  csr="$csr" skid="$key_id" max_path_length=1 ttl="$TTL" \
  uri_sans="spiffe://$TRUST_DOMAIN" exclude_cn_from_sans=true)

if [ "$(identity x509 <<<"$bridge")" != "$(identity x509 <<<"$new_root")" ]; then
  say "$bridge"
  fail "what was signed does not stand for $new: it is not imported; revoke it"
fi

id=$("$cli" write -format=json "$PKI_MOUNT/issuers/import/cert" pem_bundle="$bridge" |
  tr -d '[:space:]' | sed -n 's/.*"imported_issuers":\["\([^"]*\)"\].*/\1/p')
[ -n "$id" ] || fail "the bridge was not imported"
"$cli" write "$PKI_MOUNT/issuer/$id" usage=read-only >/dev/null
say "the bridge is issuer $id of $PKI_MOUNT, until $(show -enddate <<<"$bridge")"
echo "$bridge"
