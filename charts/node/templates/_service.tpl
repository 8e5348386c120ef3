{{/* Gives each Pod its name, RELEASE-0.RELEASE, also while it comes up: nodes look for the first one then. */}}
{{- define "node.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "node.name" . | quote }}
  labels:
    {{- include "node.labels" (dict "root" . "component" "node") | nindent 4 }}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    {{- include "node.selector" (dict "root" . "component" "node") | nindent 4 }}
  ports:
    - name: agent
      port: 7070
      targetPort: agent
{{- end -}}
