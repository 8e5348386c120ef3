{{/* A node of a private network. Both generations read their settings from the environment, each under its own prefix,
     and neither minds the other's. */}}
{{- define "codex.node" -}}
{{- $first := eq "first" .Values.generation -}}
{{- $word := $first | ternary "codex" "storage" -}}
{{- $quota := include "node.quota" . -}}
system: codex
{{- if $first }}
image: {{ include "node.image" (dict "root" . "image" .Values.image "repository" "codexstorage/nim-codex" "tag" "0.2.5") | quote }}
{{- else }}
image: {{ include "node.image" (dict "root" . "image" .Values.image "repository" "logosstorage/logos-storage-nim" "tag" "0.3.2") | quote }}
{{- end }}
pullPolicy: {{ .Values.image.pullPolicy }}
memory: 192
beside: {api: 8080, metrics: 8008}
bootstrap:
  url: {{ printf "http://%s-0.%s:8080/api/%s/v1/spr" (include "node.name" .) (include "node.name" .) $word }}
  variables: [CODEX_BOOTSTRAP_NODE, STORAGE_BOOTSTRAP_NODE]
  deadline_s: {{ int64 .Values.bootstrap.deadlineSeconds }}
command:
  - sh
  - -c
  # the volume hands its group down to the folder, but nobody else's may be allowed to it
  - |
    set -eu
    umask 077
    mkdir -p "$CODEX_DATA_DIR"
    chmod u=rwx,go=,g-s "$CODEX_DATA_DIR"
    case "$POD_NAME" in
      # without this it would join the public network
      *-0) export STORAGE_NO_BOOTSTRAP_NODE=true ;;
      *) set -a; . /codexbench/bootstrap.env; set +a ;;
    esac
    exec "$@"
  - sh
args:
  - {{ .Values.program | default $word | quote }}
  {{- range .Values.settings.flags | default "" | splitList " " | compact }}
  {{- if has (regexFind "[a-z0-9-]+" . | trimPrefix "--") (include "codex.ours" $ | fromJsonArray) }}
  {{- fail (printf "settings.flags: %s is set by the chart" .) }}
  {{- end }}
  - {{ . | quote }}
  {{- end }}
env:
  {{- range $prefix := list "CODEX" "STORAGE" }}
  {{- range $name, $value := dict
      "LOG_LEVEL" "INFO"
      "LOG_FORMAT" "nocolors"
      "DATA_DIR" "/codexbench/node/data/codex"
      "LISTEN_ADDRS" "/ip4/$(POD_IP)/tcp/8070"
      "LISTEN_IP" "$(POD_IP)"
      "LISTEN_PORT" "8070"
      "NAT" "extip:$(POD_IP)"
      "DISC_PORT" "8090"
      "API_BINDADDR" "0.0.0.0"
      "API_PORT" "8080"
      "METRICS" "true"
      "METRICS_ADDRESS" "0.0.0.0"
      "METRICS_PORT" "8008"
      "STORAGE_QUOTA" $quota
  }}
  - {name: {{ $prefix }}_{{ $name }}, value: {{ $value | quote }}}
  {{- end }}
  {{- end }}
ports:
  - {name: api, containerPort: 8080}
  - {name: metrics, containerPort: 8008}
  - {name: swarm, containerPort: 8070}
  - {name: discovery, containerPort: 8090, protocol: UDP}
{{- end -}}

{{/* Flags that a variant's own may not be: what the environment says, and what would make it another network. */}}
{{- define "codex.ours" -}}
[
  "data-dir", "config-file", "log-level", "log-format", "storage-quota", "network", "nat", "disc-port",
  "bootstrap-node", "no-bootstrap-node", "listen-addrs", "listen-ip", "listen-port",
  "api-bindaddr", "api-port", "metrics", "metrics-address", "metrics-port"
]
{{- end -}}
