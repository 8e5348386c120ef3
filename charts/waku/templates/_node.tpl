{{/* A relay of a private mesh: no discovery, so that it knows those alone that it is told of. */}}
{{- define "waku.node" -}}
{{- $nim := eq "nwaku" .Values.implementation -}}
{{- $shard := int64 (.Values.settings.shard | default 0) -}}
system: {{ .Values.implementation }}
{{- if $nim }}
image: {{ include "node.image" (dict "root" . "image" .Values.image "repository" "wakuorg/nwaku" "tag" "v0.36.0") | quote }}
{{- else }}
image: {{ include "node.image" (dict "root" . "image" .Values.image "repository" "wakuorg/go-waku" "tag" "v0.10.1") | quote }}
{{- end }}
pullPolicy: {{ .Values.image.pullPolicy }}
memory: 128
beside: {rest: 8645, metrics: 8008, tcp: 60000}
{{- if .Values.join }}
meets:
  - {{ include "node.name" . }}
  {{- range .Values.meets }}
  - {{ . }}
  {{- end }}
{{- end }}
command:
  - sh
  - -c
  - |
    set -eu
    # nodes of other releases have other tokens, and so other keys
    key=$(printf '%s %s' "$CODEXBENCH_TOKEN" "$POD_NAME" | sha256sum | cut -d ' ' -f 1)
    unset CODEXBENCH_TOKEN
    exec "$@" --nodekey="$key"
  - sh
args:
  - {{ .Values.program | default ($nim | ternary "/usr/bin/wakunode" "/usr/bin/waku") | quote }}
  {{- if $nim }}
  - --listen-address=$(POD_IP)
  - --nat=extip:$(POD_IP)
  - --tcp-port=60000
  - --cluster-id=2
  - --num-shards-in-network=0
  - --shard={{ $shard }}
  - --relay=true
  - --discv5-discovery=false
  - --rendezvous=false
  {{- else }}
  - --listen-address=$(POD_IP)
  - --tcp-port=60000
  - --cluster-id=2
  - --pubsub-topic=/waku/2/rs/2/{{ $shard }}
  - --log-encoding=nocolor
  # nwaku's own: a message between two limits would be taken by one and dropped by the other
  - --max-msg-size=150KiB
  {{- end }}
  - --rest=true
  - --rest-address=$(POD_IP)
  - --rest-port=8645
  - --rest-admin=true
  - --metrics-server=true
  - --metrics-server-address=$(POD_IP)
  - --metrics-server-port=8008
  # by default it takes five peers of one address
  - --ip-colocation-limit=0
env:
  {{- include "node.token" . | nindent 2 }}
ports:
  - {name: p2p, containerPort: 60000}
  - {name: rest, containerPort: 8645}
  - {name: metrics, containerPort: 8008}
{{- end -}}
