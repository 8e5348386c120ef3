{{/* Names and labels. All templates of this library take the context of the chart that uses it. */}}

{{/* The name of the StatefulSet and of its Service: the release's, so that its Pods are RELEASE-0, RELEASE-1, ... */}}
{{- define "node.name" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,50}[a-z0-9])?$" .Release.Name) -}}
{{- fail (printf "release name %q: it names Pods and Services, so it must be at most 52 lower-case letters, digits and dashes, beginning with a letter" .Release.Name) -}}
{{- end -}}
{{- .Release.Name -}}
{{- end -}}

{{/* What never changes: what selectors select by. Takes "root" and "component". */}}
{{- define "node.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* The labels of every object. Takes "root" and "component". */}}
{{- define "node.labels" -}}
{{ include "node.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: codexbench
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- with .root.Values.run }}
codexbench/run: {{ . | quote }}
{{- end }}
{{- with .root.Values.cell }}
codexbench/cell: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* An image by digest if there is one, else by tag; in imageRegistry, if its name does not begin with a registry. Takes
     "root", "image", and "repository" and "tag" for what it leaves open. */}}
{{- define "node.image" -}}
{{- $repository := .image.repository | default .repository -}}
{{- $registry := .root.Values.imageRegistry -}}
{{- if and $registry (not (regexMatch "^(localhost|[^/]*[.:][^/]*)/" $repository)) -}}
{{- $repository = printf "%s/%s" $registry $repository -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.image.tag | default .tag) -}}
{{- end -}}
{{- end -}}

{{- define "node.agentImage" -}}
{{- include "node.image" (dict "root" . "image" .Values.agent.image "tag" .Chart.AppVersion) -}}
{{- end -}}
