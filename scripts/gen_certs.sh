#!/usr/bin/env bash
# Makes a CA, a server and a client certificate for mutual TLS between the services, into tls_certs/.
# What is there and valid for another week is kept; --force makes all of it anew. TLS_CERTS_DIR changes the folder,
# TLS_EXTRA_SANS adds names to the server's certificate (e.g. "DNS:mesh.example,IP:10.0.0.5").
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${TLS_CERTS_DIR:-tls_certs}
days=825 # the most that Apple's systems accept of a leaf certificate
week=$((7 * 24 * 3600))
names=DNS:localhost,IP:127.0.0.1,IP:::1
for service in agent-planner model-gateway memory sandbox notification-subscriber; do
  names+=,DNS:$service
done
names+=${TLS_EXTRA_SANS:+,$TLS_EXTRA_SANS}

command -v openssl >/dev/null || {
  echo "gen_certs: openssl is missing. On Debian and Ubuntu: apt install openssl" >&2
  exit 1
}

fresh() {
  local file
  for file in ca.crt server.crt client.crt; do
    openssl x509 -in "$folder/$file" -noout -checkend "$week" >/dev/null 2>&1 || return 1
  done
  for file in server client; do
    openssl verify -CAfile "$folder/ca.crt" "$folder/$file.crt" >/dev/null 2>&1 || return 1
    # The key belongs to the certificate.
    [ "$(openssl pkey -in "$folder/$file.key" -pubout 2>/dev/null)" = \
      "$(openssl x509 -in "$folder/$file.crt" -noout -pubkey)" ] || return 1
  done
}

if [ "${1:-}" != --force ] && fresh; then
  echo "Certificates in $folder/ are valid until$(openssl x509 -in "$folder/server.crt" -noout -enddate | cut -d= -f2 | sed 's/^/ /')"
  exit 0
fi

umask 077 # keys are for their owner alone from the first byte on
mkdir -p "$folder"
work=$(mktemp -d "$folder/new.XXXXXX")
trap 'rm -rf "$work"' EXIT

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$work/$1.key"; }

# A CA of its own name each time, so that an old leaf is never looked up under the new CA.
key ca
openssl req -x509 -new -sha256 -key "$work/ca.key" -days "$days" -out "$work/ca.crt" \
  -subj "/O=PAGI Mesh/CN=PAGI Mesh CA $(openssl rand -hex 4)" \
  -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign

leaf() { # name, extended key usage, subject alternative names
  key "$1"
  openssl req -new -sha256 -key "$work/$1.key" -out "$work/$1.csr" -subj "/O=PAGI Mesh/CN=pagi-$1"
  printf '%s\n' basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature \
    "extendedKeyUsage=$2" "subjectAltName=$3" subjectKeyIdentifier=hash authorityKeyIdentifier=keyid >"$work/$1.ext"
  openssl x509 -req -sha256 -in "$work/$1.csr" -CA "$work/ca.crt" -CAkey "$work/ca.key" \
    -set_serial "0x$(openssl rand -hex 16)" -days "$days" -extfile "$work/$1.ext" -out "$work/$1.crt" 2>/dev/null
}
leaf server serverAuth "$names"
leaf client clientAuth DNS:pagi-client

chmod 644 "$work"/*.crt
chmod 600 "$work"/*.key
mv -f "$work"/*.crt "$work"/*.key "$folder/"
# mktemp's mode went with the folder's; certificates are for everybody to read.
chmod 755 "$folder"
echo "Made certificates in $folder/, valid for $days days: ca, server, client"
