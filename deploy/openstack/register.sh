#!/usr/bin/env bash
# Registers a zone of kvol in an OpenStack's Keystone, by its own client: the role,
# project and user of the service, and its entries in the catalog. It may be run
# again, also with other addresses: what is there is kept or changed.
#
# Wanted in the environment:
#   OS_*                  an administrator, as for every openstack command
#   KVOL_URL              how users reach the zone, such as https://volumes.example.com:8776
#   KVOL_PASSWORD         of kvol's own user, as in the zone's configuration (keystone.password)
# and, if they differ from what is shown here:
#   KVOL_INTERNAL_URL     $KVOL_URL, how other services reach it
#   KVOL_USER kvol        KVOL_PROJECT service      KVOL_DOMAIN Default      KVOL_ROLE service
#   KVOL_REGION           $OS_REGION_NAME, or RegionOne: "region" of the zone's configuration
#   KVOL_PROJECT_IN_URL   yes; no: addresses of v3 without a project, which tokens of the
#                         system have in their catalog too
set -euo pipefail
public=${KVOL_URL:?how users reach the zone}
internal=${KVOL_INTERNAL_URL:-$public}
password=${KVOL_PASSWORD:?the password of kvol\'s user}
user=${KVOL_USER:-kvol} project=${KVOL_PROJECT:-service} domain=${KVOL_DOMAIN:-Default} role=${KVOL_ROLE:-service}
region=${KVOL_REGION:-${OS_REGION_NAME:-RegionOne}}
public=${public%/} internal=${internal%/}
v3='/v3/%(project_id)s'
if [ "${KVOL_PROJECT_IN_URL:-yes}" = no ]; then v3=/v3; fi

fail() { echo "register.sh: $*" >&2; exit 1; }
for word in "$public" "$internal" "$password" "$user" "$project" "$domain" "$role" "$region"; do
  [[ $word =~ ^[A-Za-z0-9_.:/@%+,=~-]+$ ]] || fail "letters, digits and _.:/@%+,=~- only, please: passwords too"
done

# type, name, path
services=("volumev3 cinderv3 $v3" "volumev2 cinderv2 /v2/%(project_id)s" "block-storage cinder $v3")
address() { if [ "$1" = public ]; then echo "$public$2"; else echo "$internal$2"; fi; }
# One process for many commands: the client takes longer to start than to do
# anything. A password is in nobody's list of processes that way.
look() {
  echo "endpoint list --region $region -f value"
  printf '%s\n' "$@"
}
# TYPE SIDE: the id and the address of an endpoint, nothing if there is none. The
# client shows id, region, name and type of the service, enabled, interface, URL.
found() { awk -v t="$1" -v s="$2" 'NF > 5 && $(NF-3) == t && $(NF-1) == s {print $1, $NF; exit}' <<<"$endpoints"; }

endpoints=$(look "service list -f value -c Type" | openstack) || fail "the openstack client failed"
there=$(awk 'NF == 1' <<<"$endpoints")
commands() {
  echo "role create --or-show $role"
  echo "project create --or-show --domain $domain $project"
  echo "user create --or-show --domain $domain --password $password $user"
  echo "user set --domain $domain --password $password $user"
  echo "role add --user $user --user-domain $domain --project $project --project-domain $domain $role"
  for entry in "${services[@]}"; do
    read -r type name path <<<"$entry"
    grep -qx -- "$type" <<<"$there" || echo "service create --name $name --description kvol $type"
    for side in public internal admin; do
      url=$(address $side "$path")
      read -r id at <<<"$(found "$type" $side)" || true
      if [ -z "$id" ]; then
        echo "endpoint create --region $region $type $side $url"
      elif [ "$at" != "$url" ]; then
        echo "endpoint set --url $url $id"
      fi
    done
  done
}
# The client goes on after an error, so it is what is there afterwards that counts.
# What it says of the commands before is in tables, and is none of what is looked for.
endpoints=$({
  commands
  look "role assignment list --user $user --user-domain $domain --project $project --project-domain $domain \
--names -f value -c Role"
} | openstack) || fail "the openstack client failed"
for entry in "${services[@]}"; do
  read -r type name path <<<"$entry"
  for side in public internal admin; do
    read -r id at <<<"$(found "$type" $side)" || true
    [ "$at" = "$(address $side "$path")" ] || fail "the $side endpoint of $type is '$at', not $(address $side "$path")"
  done
done
grep -qx -- "$role" <<<"$endpoints" || fail "$user does not have the role $role in $project"
echo "kvol is registered in region $region: $public"
