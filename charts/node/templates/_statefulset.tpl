{{/* The nodes. Takes "root" and "node", which says what is the system's own:
       system     its name, as agents know it
       image, pullPolicy, command, args, env, ports
       memory     MiB that its program is known to take
       beside     its ports by name, for the agent
       services   URL by name of what the cluster has once, such as a tracker
       meets      names of Services whose nodes the agent is to make it meet; left out where others do
       bootstrap  see "node.bootstrap"; left out where nodes need no first one */}}
{{- define "node.statefulset" -}}
{{- $root := .root -}}
{{- $node := .node -}}
{{- $labels := include "node.labels" (dict "root" $root "component" "node") -}}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ include "node.name" $root | quote }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  serviceName: {{ include "node.name" $root | quote }}
  replicas: {{ int64 $root.Values.nodes }}
  podManagementPolicy: Parallel
  selector:
    matchLabels:
      {{- include "node.selector" (dict "root" $root "component" "node") | nindent 6 }}
  template:
    metadata:
      labels:
        {{- $labels | nindent 8 }}
      annotations:
        kubectl.kubernetes.io/default-container: node
        {{- with include "node.bandwidth" $root }}
        kubernetes.io/ingress-bandwidth: {{ . | quote }}
        kubernetes.io/egress-bandwidth: {{ . | quote }}
        {{- end }}
    spec:
      {{- include "node.podSpec" $root | nindent 6 }}
      {{- with include "node.affinity" $root }}
      {{- . | nindent 6 }}
      {{- end }}
      # the agent finds the node's process, and measures it
      shareProcessNamespace: true
      terminationGracePeriodSeconds: 5
      {{- with $node.bootstrap }}
      initContainers:
        - {{ include "node.bootstrap" (dict "root" $root "bootstrap" .) | nindent 10 | trim }}
      {{- end }}
      containers:
        - name: node
          image: {{ $node.image | quote }}
          imagePullPolicy: {{ $node.pullPolicy }}
          command:
            {{- toYaml $node.command | nindent 12 }}
          args:
            {{- toYaml $node.args | nindent 12 }}
          env:
            {{- include "node.place" . | nindent 12 }}
            {{- with $node.env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
            {{- with include "node.extraEnv" . }}
            {{- trim . | nindent 12 }}
            {{- end }}
          {{- with $node.ports }}
          ports:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          resources:
            {{- include "node.resources" (dict "root" $root "given" $root.Values.resources.node "memory" $node.memory "holdsVolume" true) | nindent 12 }}
          securityContext:
            {{- include "node.containerSecurity" . | nindent 12 }}
          volumeMounts:
            {{- include "node.mounts" . | nindent 12 }}
        - {{ include "node.agent" . | nindent 10 | trim }}
      volumes:
        - name: tmp
          emptyDir:
            sizeLimit: 64Mi
        {{- if eq "emptyDir" $root.Values.storage.kind }}
        - name: data
          emptyDir:
            sizeLimit: {{ include "node.volume" $root | quote }}
        {{- end }}
  {{- if eq "pvc" $root.Values.storage.kind }}
  # nothing is left behind: what a node stored is of no use without the run
  persistentVolumeClaimRetentionPolicy:
    whenDeleted: Delete
    whenScaled: Delete
  volumeClaimTemplates:
    - metadata:
        name: data
        labels:
          {{- $labels | nindent 10 }}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $root.Values.storage.class }}
        storageClassName: {{ . | quote }}
        {{- end }}
        resources:
          requests:
            storage: {{ include "node.volume" $root | quote }}
  {{- end }}
{{- end -}}

{{/* Variables of the user's own, which may not be the chart's: among two of one name the last one would count. */}}
{{- define "node.extraEnv" -}}
{{- $ours := list "POD_NAME" "POD_IP" "HOME" -}}
{{- range .node.env -}}{{- $ours = append $ours .name -}}{{- end -}}
{{- range .root.Values.extraEnv }}
{{- if has .name $ours }}{{ fail (printf "extraEnv: %s is set by the chart" .name) }}{{ end }}
- name: {{ .name | quote }}
  value: {{ .value | quote }}
{{- end -}}
{{- end -}}

{{/* placement: a host for each node, or one host for all. */}}
{{- define "node.affinity" -}}
{{- if ne "any" .Values.placement -}}
affinity:
  {{ eq "spread" .Values.placement | ternary "podAntiAffinity" "podAffinity" }}:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "node.selector" (dict "root" . "component" "node") | nindent 12 }}
{{- end -}}
{{- end -}}
