{{/* One libtorrent session: a program of this project, in the agent's own image. */}}
{{- define "bittorrent.node" -}}
{{- $node := dict "system" "bittorrent" "services" (dict "tracker" (include "node.trackerURL" .)) -}}
{{- toYaml $node }}
image: {{ include "node.agentImage" . | quote }}
pullPolicy: {{ .Values.agent.image.pullPolicy }}
memory: 128
{{ include "node.become" (dict "root" . "node" $node) }}
env:
  {{- include "node.token" . | nindent 2 }}
  - {name: PYTHONUNBUFFERED, value: "1"}
{{- end -}}
