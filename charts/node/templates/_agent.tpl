{{/* Who and where a container's Pod is. */}}
{{- define "node.place" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
# nothing else can be written to
- name: HOME
  value: /tmp
{{- end -}}

{{- define "node.mounts" -}}
- name: data
  mountPath: /codexbench
- name: tmp
  mountPath: /tmp
{{- end -}}

{{/* What an agent is told, and a node program of this project the same. Takes "root" and "node". */}}
{{- define "node.agentArguments" -}}
- --name=$(POD_NAME)
- --system={{ .node.system }}
- --listen=http://0.0.0.0:7070
- --address=$(POD_IP)
- --folder=/codexbench/node
- --log=/codexbench/node.log
- --largest={{ include "node.largest" .root }}
- {{ printf "--settings=%s" (toJson .root.Values.settings) | squote }}
- {{ printf "--services=%s" (toJson (.node.services | default dict)) | squote }}
- {{ printf "--beside=%s" (toJson (.node.beside | default dict)) | squote }}
{{- end -}}

{{/* The container beside the node's. It shows that it is up by answering; then it is left alone, but for a look twice a
     minute, so that the cluster takes no part in what is measured. Takes "root" and "node". */}}
{{- define "node.agent" -}}
name: agent
image: {{ include "node.agentImage" .root | quote }}
imagePullPolicy: {{ .root.Values.agent.image.pullPolicy }}
command: [python3, -m, pytest_codexbench.agent]
args:
  {{- include "node.agentArguments" . | nindent 2 }}
  {{- range .node.meets }}
  - --meet={{ . }}
  {{- end }}
env:
  {{- include "node.place" . | nindent 2 }}
  {{- include "node.token" .root | nindent 2 }}
  - name: PYTHONUNBUFFERED
    value: "1"
ports:
  - name: agent
    containerPort: 7070
startupProbe:
  tcpSocket:
    port: agent
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 300
readinessProbe:
  tcpSocket:
    port: agent
  periodSeconds: 30
  timeoutSeconds: 10
resources:
  {{- include "node.resources" (dict "root" .root "given" .root.Values.resources.agent "memory" 64) | nindent 2 }}
securityContext:
  {{- include "node.containerSecurity" . | nindent 2 }}
volumeMounts:
  {{- include "node.mounts" . | nindent 2 }}
{{- end -}}

{{/* A node program of this project: the agent's image becomes it. It may be there before the agent is, which makes the
     folder otherwise. Takes "root" and "node"; gives "command" and "args". */}}
{{- define "node.become" -}}
command:
  - sh
  - -c
  - umask 077; mkdir -p /codexbench/node/data; exec "$@"
  - sh
args:
  - python3
  - -m
  - pytest_codexbench.agent
  - --become
  {{- include "node.agentArguments" . | nindent 2 }}
{{- end -}}
