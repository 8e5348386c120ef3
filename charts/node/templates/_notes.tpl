{{/* What is said after an install. */}}
{{- define "node.notes" -}}
{{- $name := include "node.name" . -}}
{{- $in := printf "-n %s" .Release.Namespace -}}
{{ $name }}: {{ int64 .Values.nodes }} nodes of {{ .Chart.Name }}, each with room for {{ int64 .Values.data.files }} file{{ ne 1 (int .Values.data.files) | ternary "s" "" }} of {{ include "node.largest" . }} bytes
{{- with .Values.link.rate }}, on links of {{ . }}{{ end }}.

Look at it:
  kubectl {{ $in }} rollout status statefulset/{{ $name }}
  kubectl {{ $in }} get pods -l app.kubernetes.io/instance={{ .Release.Name }} -o wide
  kubectl {{ $in }} logs {{ $name }}-0
  kubectl {{ $in }} logs {{ $name }}-0 -c agent

See it work (a small file goes from one node to all others):
  helm {{ $in }} test {{ .Release.Name }}

Ask an agent, here for its health ("runs" turns true when the verb "start" has found the node's program):
  kubectl {{ $in }} port-forward {{ $name }}-0 7070 &
  token=$(kubectl {{ $in }} get secret {{ $name }} -o jsonpath='{.data.token}' | base64 -d)
  curl -H "Authorization: Bearer $token" -d '{}' http://127.0.0.1:7070/health
Inside the cluster the agents are http://{{ $name }}-0.{{ $name }}:7070 to http://{{ $name }}-{{ sub (int64 .Values.nodes) 1 }}.{{ $name }}:7070.

Remove it{{ if eq "pvc" .Values.storage.kind }}, with the volumes of its nodes{{ end }}:
  helm {{ $in }} uninstall {{ .Release.Name }}
{{- end -}}
