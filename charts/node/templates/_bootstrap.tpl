{{/* Waits for the first node's own record, and keeps it as variables for the node's container; the first one needs none.
     Takes "root" and "bootstrap": "url", "variables", "deadline_s". */}}
{{- define "node.bootstrap" -}}
name: bootstrap
image: {{ include "node.agentImage" .root | quote }}
imagePullPolicy: {{ .root.Values.agent.image.pullPolicy }}
command:
  - sh
  - -c
  - case "$POD_NAME" in *-0) exit 0 ;; esac; exec "$@"
  - sh
args:
  - python3
  - -m
  - pytest_codexbench.agent.bootstrap
  - --url={{ .bootstrap.url }}
  {{- range .bootstrap.variables }}
  - --variable={{ . }}
  {{- end }}
  - --out=/codexbench/bootstrap.env
  - --deadline={{ int64 .bootstrap.deadline_s }}
env:
  {{- include "node.place" . | nindent 2 }}
  - name: PYTHONUNBUFFERED
    value: "1"
resources:
  {{- include "node.resources" (dict "root" .root "given" .root.Values.resources.agent "memory" 64) | nindent 2 }}
securityContext:
  {{- include "node.containerSecurity" . | nindent 2 }}
volumeMounts:
  {{- include "node.mounts" . | nindent 2 }}
{{- end -}}
