{{/* The HTTP tracker that a swarm has once. Its Service has no address of its own: behind one, the tracker could see that
     of a host where it must see that of a peer. */}}
{{- define "node.tracker" -}}
{{- $name := printf "%s-tracker" (include "node.name" .) -}}
{{- $labels := include "node.labels" (dict "root" . "component" "tracker") -}}
{{- $selector := include "node.selector" (dict "root" . "component" "tracker") -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels:
    {{- $labels | nindent 4 }}
  annotations:
    # of no use to Helm; Argo CD has it up before the nodes
    argocd.argoproj.io/sync-wave: "-1"
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    {{- $selector | nindent 4 }}
  ports:
    - name: tracker
      port: 6969
      targetPort: tracker
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels:
    {{- $labels | nindent 4 }}
  annotations:
    argocd.argoproj.io/sync-wave: "-1"
spec:
  replicas: 1
  strategy:
    # two at a time would each know half of the swarm
    type: Recreate
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
  template:
    metadata:
      labels:
        {{- $labels | nindent 8 }}
    spec:
      {{- include "node.podSpec" . | nindent 6 }}
      terminationGracePeriodSeconds: 5
      containers:
        - name: tracker
          image: {{ include "node.agentImage" . | quote }}
          imagePullPolicy: {{ .Values.agent.image.pullPolicy }}
          command: [python3, -m, pytest_codexbench.nodes.tracker]
          args: [--address=0.0.0.0, --port=6969]
          env:
            - name: HOME
              value: /tmp
            - name: PYTHONUNBUFFERED
              value: "1"
          ports:
            - name: tracker
              containerPort: 6969
          startupProbe:
            httpGet:
              path: /health
              port: tracker
            periodSeconds: 1
            timeoutSeconds: 5
            failureThreshold: 300
          readinessProbe:
            httpGet:
              path: /health
              port: tracker
            periodSeconds: 30
            timeoutSeconds: 10
          resources:
            requests:
              cpu: 20m
              memory: 32Mi
            limits:
              memory: 256Mi
          securityContext:
            {{- include "node.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - name: tmp
              mountPath: /tmp
      volumes:
        - name: tmp
          emptyDir:
            sizeLimit: 64Mi
{{- end -}}

{{- define "node.trackerURL" -}}
http://{{ include "node.name" . }}-tracker:6969
{{- end -}}
