{{- define "photogate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters, because the names of the parts are appended. */}}
{{- define "photogate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "photogate.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "photogate.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "photogate.selector" -}}
app.kubernetes.io/name: {{ include "photogate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "photogate.labels" -}}
{{ include "photogate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "photogate.image" -}}
{{- $repository := required "image.repository is empty: say where your cluster pulls the image of photogate from" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "photogate.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "photogate.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* That of the workers: the same, unless they have one of their own. */}}
{{- define "photogate.workerAccountName" -}}
{{- default (include "photogate.serviceAccountName" .) .Values.workers.serviceAccount.name -}}
{{- end -}}

{{/* A value of a setting as text. Helm reads every number as a float, and would write 1000000 as 1e+06. */}}
{{- define "photogate.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . | toString | quote -}}
{{- else -}}
{{- toString . | quote -}}
{{- end -}}
{{- end -}}

{{/* A variable from a Secret: dict "variable" "what" "from" {name, key}. */}}
{{- define "photogate.secret" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ required (printf "secrets.%s.name is empty: make a Secret with it, and name it" .what) .from.name | quote }}
      key: {{ .from.key | quote }}
{{- end -}}

{{/* Where the migration finds PostgreSQL. */}}
{{- define "photogate.direct" -}}
{{- toYaml (ternary .Values.database.direct (pick .Values.database "host" "port") (ne .Values.database.direct.host "")) -}}
{{- end -}}

{{- define "photogate.hasCa" -}}
{{- if or .Values.database.ca.secret .Values.database.ca.configMap -}}yes{{- end -}}
{{- end -}}

{{/* A part of an address. `urlquery` alone writes a space as +, which is a space in queries only. */}}
{{- define "photogate.escaped" -}}
{{- urlquery . | replace "+" "%20" -}}
{{- end -}}

{{/* The way to PostgreSQL: dict "root" "login" "secret" "what" "at" {host, port}. The password is not in the address. */}}
{{- define "photogate.database" -}}
{{- $database := .root.Values.database -}}
{{- $host := required "database.host is empty: name the host of PostgreSQL" .at.host -}}
- name: DATABASE_URL
  value: {{ printf "postgres://%s@%s:%d/%s?sslmode=%s%s" (include "photogate.escaped" .login) $host (int .at.port)
      (include "photogate.escaped" $database.name) $database.sslMode
      (ternary (printf "&sslrootcert=/etc/photogate/database/%s" $database.ca.key) "" (eq (include "photogate.hasCa" .root) "yes")) | quote }}
{{ include "photogate.secret" (dict "variable" "PGPASSWORD" "what" .what "from" .secret) }}
{{- end -}}

{{/* The settings of all processes and of this one, as YAML: dict "root" "own". `merge` is not used, because it takes 0 and
false for nothing. */}}
{{- define "photogate.settingsOf" -}}
{{- $all := dict -}}
{{- range $settings := list .root.Values.settings .own -}}
{{- range $name, $value := $settings -}}
{{- $_ := set $all $name $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* The same settings, as variables. */}}
{{- define "photogate.settings" -}}
{{- range $name, $value := include "photogate.settingsOf" . | fromYaml }}
{{- if not (kindIs "invalid" $value) }}
- name: PHOTOGATE_{{ upper $name }}
  value: {{ include "photogate.text" $value }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The variables of the store that are no secrets: those of each provider, and those of the connection. What is not here
belongs into a Secret, also what a later version knows. tests/it/chart.rs compares them with what the store's client knows. */}}
{{- define "photogate.openVariables" -}}
{{- range list "AWS" "GOOGLE" "AZURE" }}
{{- $provider := . }}
{{- range list "ALLOW_HTTP" "ALLOW_INVALID_CERTIFICATES" "CONNECT_TIMEOUT" "DEFAULT_CONTENT_TYPE" "HTTP1_ONLY"
      "DISABLE_SYSTEM_CERTIFICATES" "HTTP2_KEEP_ALIVE_INTERVAL" "HTTP2_KEEP_ALIVE_TIMEOUT" "HTTP2_KEEP_ALIVE_WHILE_IDLE"
      "HTTP2_MAX_FRAME_SIZE" "HTTP2_ONLY"
      "POOL_IDLE_TIMEOUT" "POOL_MAX_IDLE_PER_HOST" "PROXY_CA_CERTIFICATE" "PROXY_EXCLUDES" "PROXY_URL" "RANDOMIZE_ADDRESSES"
      "TIMEOUT" "USER_AGENT" }}
- {{ $provider }}_{{ . }}
{{- end }}
{{- end }}
{{- range list "CHECKSUM_ALGORITHM" "CONDITIONAL_PUT" "CONTAINER_AUTHORIZATION_TOKEN_FILE"
      "CONTAINER_CREDENTIALS_FULL_URI" "CONTAINER_CREDENTIALS_RELATIVE_URI" "COPY_IF_NOT_EXISTS" "DEFAULT_REGION"
      "DISABLE_BULK_DELETE" "DISABLE_TAGGING" "ENDPOINT" "ENDPOINT_URL" "ENDPOINT_URL_S3" "ENDPOINT_URL_STS" "IMDSV1_FALLBACK" "METADATA_ENDPOINT" "REGION"
      "REQUEST_PAYER" "ROLE_ARN" "ROLE_SESSION_NAME" "S3_EXPRESS" "SERVER_SIDE_ENCRYPTION" "SKIP_SIGNATURE"
      "SSE_BUCKET_KEY_ENABLED" "SSE_KMS_KEY_ID" "UNSIGNED_PAYLOAD" "VIRTUAL_HOSTED_STYLE_REQUEST" "WEB_IDENTITY_TOKEN_FILE" }}
- AWS_{{ . }}
{{- end }}
{{- range list "APPLICATION_CREDENTIALS" "BASE_URL" "SERVICE_ACCOUNT" "SERVICE_ACCOUNT_PATH" "SKIP_SIGNATURE" }}
- GOOGLE_{{ . }}
{{- end }}
{{- range list "AUTHORITY_HOST" "CLIENT_ID" "CREDENTIAL_TYPE" "DISABLE_TAGGING" "ENDPOINT" "FABRIC_CLUSTER_IDENTIFIER"
      "FABRIC_TOKEN_SERVICE_URL" "FABRIC_WORKLOAD_HOST" "FEDERATED_TOKEN_FILE" "MSI_ENDPOINT" "MSI_RESOURCE_ID" "OBJECT_ID"
      "SKIP_SIGNATURE" "STORAGE_ACCOUNT_NAME" "STORAGE_AUTHORITY_HOST" "STORAGE_CLIENT_ID" "STORAGE_ENDPOINT"
      "STORAGE_TENANT_ID" "TENANT_ID" "USE_FABRIC_ENDPOINT" }}
- AZURE_{{ . }}
{{- end }}
{{- end -}}

{{/* What the service and workers have in common. */}}
{{- define "photogate.common" -}}
{{- with .Values.secrets.redisUrl }}{{- if .name }}
{{ include "photogate.secret" (dict "variable" "REDIS_URL" "what" "redisUrl" "from" .) }}
{{- end }}{{- end }}
{{- with .Values.secrets.smtpUrl }}{{- if .name }}
{{ include "photogate.secret" (dict "variable" "PHOTOGATE_SMTP_URL" "what" "smtpUrl" "from" .) }}
{{- end }}{{- end }}
- name: PHOTOGATE_STORE_URL
  value: {{ required "store.url is empty: say where the photos are, as s3://bucket/prefix" .Values.store.url | quote }}
- name: PHOTOGATE_METRICS_LISTEN
  value: {{ printf "%s:9464" .Values.listenOn | quote }}
{{- $open := include "photogate.openVariables" . | fromYamlArray }}
{{- range $name, $value := .Values.store.environment }}
{{- if not (has $name $open) }}
{{- fail (printf "store.environment.%s may be a secret: name where it is, in store.secretEnvironment" $name) }}
{{- end }}
- name: {{ $name }}
  value: {{ include "photogate.text" $value }}
{{- end }}
{{- range $name, $from := .Values.store.secretEnvironment }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $from.name | quote }}
      key: {{ $from.key | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "photogate.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "photogate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "photogate.isFile" -}}
{{- if hasPrefix "file:" .Values.store.url -}}yes{{- end -}}
{{- end -}}

{{/* dict "root" "temporary" "photos": whether the store is mounted. */}}
{{- define "photogate.volumes" -}}
- name: temporary
  emptyDir:
    sizeLimit: {{ .temporary }}
{{- if include "photogate.hasCa" .root }}
- name: database-ca
  {{- if .root.Values.database.ca.secret }}
  secret:
    secretName: {{ .root.Values.database.ca.secret | quote }}
    items:
      - { key: {{ .root.Values.database.ca.key | quote }}, path: {{ .root.Values.database.ca.key | quote }} }
  {{- else }}
  configMap:
    name: {{ .root.Values.database.ca.configMap | quote }}
    items:
      - { key: {{ .root.Values.database.ca.key | quote }}, path: {{ .root.Values.database.ca.key | quote }} }
  {{- end }}
{{- end }}
{{- if and .photos (include "photogate.isFile" .root) }}
- name: photos
  persistentVolumeClaim:
    claimName: {{ required "store.existingClaim is empty: a store in files needs a PersistentVolumeClaim" .root.Values.store.existingClaim | quote }}
{{- end }}
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "photogate.mounts" -}}
- name: temporary
  mountPath: /tmp
{{- if include "photogate.hasCa" . }}
- name: database-ca
  mountPath: /etc/photogate/database
  readOnly: true
{{- end }}
{{- if include "photogate.isFile" . }}
- name: photos
  mountPath: {{ trimPrefix "file://" .Values.store.url | quote }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Where pods run: dict "root" "part" "component". */}}
{{- define "photogate.placement" -}}
{{- with .part.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .part.topologySpread }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "photogate.selector" $.root | nindent 8 }}
        app.kubernetes.io/component: {{ $.component }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Seconds from SIGTERM to SIGKILL: dict "root" "part". The drain, and what comes before and after it. */}}
{{- define "photogate.grace" -}}
{{- $all := include "photogate.settingsOf" (dict "root" .root "own" .part.settings) | fromYaml -}}
{{- add (int (get $all "drain_seconds")) 20 -}}
{{- end -}}

{{/* The pods of workers: dict "root" "component" "part" "settings". */}}
{{- define "photogate.worker" -}}
metadata:
  labels:
    {{- include "photogate.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
    {{- with .root.Values.workers.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .root.Values.workers.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "photogate.workerAccountName" .root }}
  {{- include "photogate.podSecurity" .root | nindent 2 }}
  terminationGracePeriodSeconds: {{ include "photogate.grace" (dict "root" .root "part" .root.Values.workers) }}
  {{- include "photogate.placement" (dict "root" .root "part" .root.Values.workers "component" .component) | nindent 2 }}
  containers:
    - name: worker
      image: {{ include "photogate.image" .root | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: [work]
      env:
        {{- include "photogate.database" (dict "root" .root "at" .root.Values.database "login" .root.Values.database.workerLogin "secret" .root.Values.secrets.workerPassword "what" "workerPassword") | nindent 8 }}
        {{- include "photogate.common" .root | nindent 8 }}
        {{- include "photogate.settings" (dict "root" .root "own" .settings) | nindent 8 }}
      ports:
        - { name: metrics, containerPort: 9464 }
      # The port for metrics is open before the database is asked: a worker that waits for PostgreSQL is alive.
      startupProbe:
        httpGet: { path: /health, port: metrics }
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: { path: /health, port: metrics }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /health, port: metrics }
        periodSeconds: 10
      securityContext:
        {{- include "photogate.containerSecurity" .root | nindent 8 }}
      resources:
        {{- toYaml .part.resources | nindent 8 }}
      volumeMounts:
        {{- include "photogate.mounts" .root | nindent 8 }}
  volumes:
    {{- include "photogate.volumes" (dict "root" .root "temporary" .root.Values.workers.temporarySize "photos" true) | nindent 4 }}
{{- end -}}
