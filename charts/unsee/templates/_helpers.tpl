{{/* An image by its digest, or else by its tag. */}}
{{- define "unsee.image" -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end }}

{{/* The step image. */}}
{{- define "unsee.stepImage" -}}
{{ include "unsee.image" (merge (dict "tag" (.Values.image.tag | default .Chart.AppVersion)) .Values.image) }}
{{- end }}

{{/* What selects the pods of a component: (list $ component). */}}
{{- define "unsee.selector" -}}
app.kubernetes.io/name: unsee
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of every object of a component: (list $ component). */}}
{{- define "unsee.labels" -}}
{{ include "unsee.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: unsee-{{ (index . 0).Chart.Version }}
{{- end }}

{{/* Namespaces in which pipelines run, as a JSON list. */}}
{{- define "unsee.namespaces" -}}
{{ .Values.pipelineNamespaces | default (list .Release.Namespace) | toJson }}
{{- end }}

{{/* The release's namespace and those of pipelines, as a JSON list. */}}
{{- define "unsee.allNamespaces" -}}
{{ append .Values.pipelineNamespaces .Release.Namespace | uniq | toJson }}
{{- end }}

{{- define "unsee.s3Endpoint" -}}
{{ .Values.s3.endpoint | default (printf "http://unsee-s3.%s.svc:8333" .Release.Namespace) }}
{{- end }}

{{- define "unsee.mlflowHost" -}}
unsee-mlflow.{{ .Release.Namespace }}.svc:5000
{{- end }}

{{/* Where steps find the servers: environment variables that are no secret, as a YAML map. */}}
{{- define "unsee.settings" -}}
UNSEE_STORE: s3://{{ .Values.s3.bucket }}/artifacts
UNSEE_CHECKPOINTS: s3://{{ .Values.s3.bucket }}/checkpoints
AWS_ENDPOINT_URL: {{ include "unsee.s3Endpoint" . }}
AWS_REGION: {{ .Values.s3.region }}
MLFLOW_TRACKING_URI: http://{{ include "unsee.mlflowHost" . }}
{{- end }}

{{/* One variable from a key of a Secret: (list variable secret key). */}}
{{- define "unsee.fromSecret" -}}
- name: {{ index . 0 }}
  valueFrom: {secretKeyRef: {name: {{ index . 1 }}, key: {{ index . 2 }}}}
{{- end }}

{{/* The credentials of S3. */}}
{{- define "unsee.s3Credentials" -}}
{{ include "unsee.fromSecret" (list "AWS_ACCESS_KEY_ID" "unsee-s3" "AWS_ACCESS_KEY_ID") }}
{{ include "unsee.fromSecret" (list "AWS_SECRET_ACCESS_KEY" "unsee-s3" "AWS_SECRET_ACCESS_KEY") }}
{{- end }}

{{/* What every pod is held to: (list $ service account). */}}
{{- define "unsee.pod" -}}
serviceAccountName: {{ index . 1 }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with (index . 0).Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What every container is held to: its resources. */}}
{{- define "unsee.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}

{{/* A claim's spec, of values `persistence`. */}}
{{- define "unsee.claim" -}}
accessModes: [{{ .accessMode }}]
{{- with .storageClass }}
storageClassName: {{ . }}
{{- end }}
resources: {requests: {storage: {{ .size }}}}
{{- end }}

{{/* MLflow's database. Postgres' password is in the environment, where its driver looks for it. */}}
{{- define "unsee.mlflowDatabase" -}}
{{- with .Values.mlflow.postgres -}}
{{ if .host }}postgresql+psycopg2://{{ .user }}@{{ .host }}:{{ .port }}/{{ .database }}{{ else }}sqlite:////data/mlflow.db{{ end }}
{{- end }}
{{- end }}
