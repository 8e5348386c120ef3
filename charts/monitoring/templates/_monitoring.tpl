{{- define "monitoring.clusterName" -}}
{{- printf "codexbench-%s-%s" .Release.Namespace (include "node.name" .) -}}
{{- end -}}

{{- define "monitoring.victoria" -}}
{{- eq "victoriametrics" .Values.database.kind | ternary "yes" "" -}}
{{- end -}}

{{- define "monitoring.port" -}}
{{- (eq "victoriametrics" .Values.database.kind) | ternary "8428" "9090" -}}
{{- end -}}

{{- define "monitoring.image" -}}
{{- $repository := (eq "victoriametrics" .Values.database.kind) | ternary "victoriametrics/victoria-metrics" "prom/prometheus" -}}
{{- $tag := (eq "victoriametrics" .Values.database.kind) | ternary "v1.130.0" "v3.7.3" -}}
{{- include "node.image" (dict "root" . "image" .Values.database.image "repository" $repository "tag" $tag) -}}
{{- end -}}

{{- define "monitoring.url" -}}
{{- printf "http://%s:%s" (include "node.name" .) (include "monitoring.port" .) -}}
{{- end -}}
