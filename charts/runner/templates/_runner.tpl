{{- define "runner.account" -}}
{{- .Values.serviceAccount | default (include "node.name" .) -}}
{{- end -}}

{{/* What is of the cluster and not of a namespace is named after both, so that two releases do not share it. */}}
{{- define "runner.clusterName" -}}
{{- printf "codexbench-%s-%s" .Release.Namespace (include "node.name" .) -}}
{{- end -}}

{{- define "runner.subjects" -}}
- kind: ServiceAccount
  name: {{ include "runner.account" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
{{- end -}}

{{- define "runner.image" -}}
{{- include "node.image" (dict "root" . "image" .Values.image "tag" .Chart.AppVersion) -}}
{{- end -}}

{{/* Each Job is of one revision: an upgrade is another run, on the same volume. */}}
{{- define "runner.job" -}}
{{- printf "%s-%d" (include "node.name" .) .Release.Revision -}}
{{- end -}}

{{/* The command line of the run, without what only some ask for. */}}
{{- define "runner.arguments" -}}
- python3
- -m
- pytest
- --pyargs
- pytest_codexbench.suite
- --rootdir=/results
- -p
- no:cacheprovider
- --matrix={{ .Values.matrixFile | empty | ternary .Values.matrix (printf "/settings/%s.toml" .Values.matrix) }}
- --cb-backend=kubernetes
- --cb-results=/results/runs
- --cb-values=/settings/swarms.yaml
- --cb-agent-image={{ include "node.agentImage" . }}
{{- with .Values.imageRegistry }}
- --cb-image-registry={{ . }}
{{- end }}
{{- with .Values.systems }}
- --cb-systems={{ . }}
{{- end }}
{{- if gt (int .Values.workers) 1 }}
- -n
- {{ .Values.workers | quote }}
{{- end }}
{{- range .Values.arguments }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "runner.env" -}}
# nothing else can be written to
- name: HOME
  value: /tmp
- name: PYTHONUNBUFFERED
  value: "1"
- name: PYTHONDONTWRITEBYTECODE
  value: "1"
{{- end -}}

{{/* The Pod's own token of the API server, and nobody else's. */}}
{{- define "runner.podSpec" -}}
{{- include "node.podSpec" . | replace "automountServiceAccountToken: false" "automountServiceAccountToken: true" }}
serviceAccountName: {{ include "runner.account" . | quote }}
restartPolicy: Never
{{- end -}}

{{- define "runner.mounts" -}}
- name: results
  mountPath: /results
- name: settings
  mountPath: /settings
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- end -}}

{{- define "runner.volumes" -}}
- name: settings
  configMap:
    name: {{ include "node.name" . | quote }}
- name: tmp
  emptyDir:
    sizeLimit: 256Mi
{{- end -}}

{{- define "runner.resources" -}}
{{- $usual := dict "requests" (dict "cpu" "100m" "memory" "256Mi") "limits" (dict "memory" "2Gi") -}}
{{- $given := deepCopy .Values.resources -}}
{{- range $name := list "cpu" "memory" -}}
{{- if hasKey ($given.limits | default dict) $name -}}{{- $_ := unset $usual.requests $name -}}{{- end -}}
{{- if hasKey ($given.requests | default dict) $name -}}{{- $_ := unset $usual.limits $name -}}{{- end -}}
{{- end -}}
{{- mergeOverwrite $usual $given | toYaml -}}
{{- end -}}
