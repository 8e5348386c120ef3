{{/* What a container asks for where the values leave it open: little, so that a large swarm fits on small hosts, and no
     limit of processor time, which would show in the results. The limit of memory has a quarter of the file on top, 2 GiB
     at most, since the pages that it writes count too. Takes "root", "given" and "memory", the MiB it is known to take. */}}
{{- define "node.resources" -}}
{{- $pages := min 2048 (div (include "node.largest" .root | int64) 4194304) -}}
{{- $requests := dict "cpu" "20m" "memory" (printf "%dMi" (int64 .memory)) -}}
{{- $limits := dict "memory" (printf "%dMi" (add $pages (mul 4 (int64 .memory)))) -}}
{{- /* one that is given stands alone: the other one's usual value might contradict it */ -}}
{{- range $name := list "cpu" "memory" -}}
{{- if hasKey ($.given.limits | default dict) $name -}}{{- $_ := unset $requests $name -}}{{- end -}}
{{- if hasKey ($.given.requests | default dict) $name -}}{{- $_ := unset $limits $name -}}{{- end -}}
{{- end -}}
{{- if and .holdsVolume .root.Values.storage.reserve (eq "emptyDir" .root.Values.storage.kind) -}}
{{- $_ := set $requests "ephemeral-storage" (include "node.volume" .root) -}}
{{- end -}}
{{- mergeOverwrite (dict "requests" $requests "limits" $limits) (deepCopy .given) | toYaml -}}
{{- end -}}
