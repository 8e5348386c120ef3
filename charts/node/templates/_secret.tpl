{{/* The token that agents, and the node programs of this project, want to see with every request. */}}
{{- define "node.secret" -}}
{{- $token := .Values.token -}}
{{- if not $token -}}
{{- /* a random one stays what it is when the release is upgraded */ -}}
{{- $there := lookup "v1" "Secret" .Release.Namespace (include "node.name" .) | default dict -}}
{{- $token = get ($there.data | default dict) "token" | b64dec | default (randAlphaNum 48) -}}
{{- end -}}
apiVersion: v1
kind: Secret
metadata:
  name: {{ include "node.name" . | quote }}
  labels:
    {{- include "node.labels" (dict "root" . "component" "node") | nindent 4 }}
type: Opaque
data:
  token: {{ $token | b64enc }}
{{- end -}}

{{- define "node.token" -}}
- name: CODEXBENCH_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "node.name" . | quote }}
      key: token
{{- end -}}
