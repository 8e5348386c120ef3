{{/* A Kubo daemon over a repository that is set up for a private swarm: nothing leaves it, and nothing is asked outside. */}}
{{- define "ipfs.node" -}}
system: ipfs
image: {{ include "node.image" (dict "root" . "image" .Values.image) | quote }}
pullPolicy: {{ .Values.image.pullPolicy }}
memory: 256
beside: {api: 5001}
command:
  - sh
  - -c
  - |
    set -eu
    umask 077
    mkdir -p "$IPFS_PATH"
    [ -f "$IPFS_PATH/config" ] || ipfs init --empty-repo
    while read -r key value; do
      ipfs config --json "$key" "$value" </dev/null
    done <<END
    {{- range $key, $value := include "ipfs.config" . | fromJson }}
    {{ $key }} {{ toJson $value }}
    {{- end }}
    END
    # swarms of other releases have other tokens, and so other keys
    key=$(printf %s "$CODEXBENCH_TOKEN" | sha256sum | cut -d ' ' -f 1)
    printf '/key/swarm/psk/1.0.0/\n/base16/\n%s\n' "$key" >"$IPFS_PATH/swarm.key"
    unset CODEXBENCH_TOKEN
    exec "$@"
  - sh
args: [ipfs, daemon, --migrate=false]
env:
  {{- include "node.token" . | nindent 2 }}
  - {name: IPFS_PATH, value: /codexbench/node/data/ipfs}
  - {name: LIBP2P_FORCE_PNET, value: "1"}
  - {name: IPFS_TELEMETRY, value: "off"}
  - {name: GOLOG_LOG_LEVEL, value: error}
ports:
  - {name: swarm, containerPort: 4001}
{{- end -}}

{{/* What differs from Kubo's own configuration, by key; the shell puts the Pod's address in. */}}
{{- define "ipfs.config" -}}
{{- $stored := mul (add1 (int64 .Values.data.files)) (include "node.largest" . | int64) | add 67108864 -}}
{
  "Addresses.API": "/ip4/127.0.0.1/tcp/5001",
  "Addresses.Gateway": [],
  "Addresses.Swarm": ["/ip4/$POD_IP/tcp/4001"],
  "AutoConf": {"Enabled": false},
  "AutoNAT": {"ServiceMode": "disabled"},
  "AutoTLS": {"Enabled": false},
  "Bootstrap": [],
  "DNS": {"Resolvers": {}},
  "Datastore.StorageMax": "{{ $stored }}B",
  "Discovery": {"MDNS": {"Enabled": false}},
  "HTTPRetrieval": {"Enabled": false},
  "Ipns.DelegatedPublishers": [],
  "Provide": {"Enabled": false},
  "Routing": {"DelegatedRouters": [], "Type": "none"},
  "Swarm.DisableNatPortMap": true,
  "Swarm.RelayClient": {"Enabled": false},
  "Swarm.RelayService": {"Enabled": false},
  "Swarm.Transports.Network": {"QUIC": false, "Websocket": false}
}
{{- end -}}
