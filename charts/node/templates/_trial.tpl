{{/* `helm test`: one node publishes a small file, all others fetch it, and every digest is compared. */}}
{{- define "node.trial" -}}
{{- $name := include "node.name" . -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ $name }}-trial
  labels:
    {{- include "node.labels" (dict "root" . "component" "trial") | nindent 4 }}
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  {{- include "node.podSpec" . | nindent 2 }}
  restartPolicy: Never
  activeDeadlineSeconds: 300
  terminationGracePeriodSeconds: 5
  containers:
    - name: trial
      image: {{ include "node.agentImage" . | quote }}
      imagePullPolicy: {{ .Values.agent.image.pullPolicy }}
      command: [python3, -m, pytest_codexbench.agent.trial]
      args:
        - --agents=http://{{ $name }}-{index}.{{ $name }}:7070
        - --nodes={{ int64 .Values.nodes }}
        - --size={{ min 1000000 (include "node.largest" . | int64) }}
        - --deadline=240
      env:
        {{- include "node.token" . | nindent 8 }}
        - name: HOME
          value: /tmp
        - name: PYTHONUNBUFFERED
          value: "1"
      resources:
        requests:
          cpu: 20m
          memory: 64Mi
        limits:
          memory: 256Mi
      securityContext:
        {{- include "node.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
{{- end -}}
