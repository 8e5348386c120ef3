{{/* Origin and client in one: a program of this project, in the agent's own image. */}}
{{- define "http.node" -}}
{{- $node := dict "system" "http" -}}
{{- toYaml $node }}
image: {{ include "node.agentImage" . | quote }}
pullPolicy: {{ .Values.agent.image.pullPolicy }}
memory: 64
{{ include "node.become" (dict "root" . "node" $node) }}
env:
  {{- include "node.token" . | nindent 2 }}
  - {name: PYTHONUNBUFFERED, value: "1"}
{{- end -}}
