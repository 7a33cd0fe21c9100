{{- define "merbridge.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "merbridge.fullname" -}}
{{- $name := include "merbridge.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "merbridge.namespace" -}}
{{- default .Release.Namespace .Values.namespace.name }}
{{- end }}

{{- define "merbridge.serviceAccount" -}}
{{- $name := ternary (include "merbridge.fullname" .) "default" .Values.serviceAccount.create }}
{{- default $name .Values.serviceAccount.name }}
{{- end }}

{{/* A selector cannot be changed: no version is in it. The full name is one daemon set's in its namespace. */}}
{{- define "merbridge.selector" -}}
app: {{ include "merbridge.fullname" . }}
{{- end }}

{{- define "merbridge.identity" -}}
app.kubernetes.io/name: {{ include "merbridge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "merbridge.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "merbridge.identity" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "merbridge.image" -}}
{{- with .Values.image }}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end }}
{{- end }}
{{- end }}

{{/* A setting as the agent reads it: list NAME VALUE. YAML reads on, off, yes and no without quotes as booleans. */}}
{{- define "merbridge.setting" -}}
{{- $name := first . }}
{{- $value := last . }}
{{- if kindIs "bool" $value }}
{{- if eq $name "failOpen" }}{{ ternary "yes" "no" $value }}{{ else }}{{ ternary "on" "off" $value }}{{ end }}
{{- else if kindIs "string" $value }}
{{- $value }}
{{- else }}
{{- int64 $value }}
{{- end }}
{{- end }}

{{/* Empty when the agent does not annotate pods. */}}
{{- define "merbridge.annotates" -}}
{{- $annotate := dig "annotate" "on" .Values.settings }}
{{- if ne (include "merbridge.setting" (list "annotate" $annotate)) "off" }}yes{{ end }}
{{- end }}

{{- define "merbridge.listen" -}}
{{- with .Values.listen }}
{{- if contains ":" .address }}[{{ .address }}]{{ else }}{{ .address }}{{ end }}:{{ int .port }}
{{- end }}
{{- end }}

{{/* Where the kubelet asks what listens at listen.address. */}}
{{- define "merbridge.probed" -}}
{{- $everywhere := dict "0.0.0.0" "127.0.0.1" "::" "::1" }}
{{- get $everywhere .Values.listen.address | default .Values.listen.address | quote }}
{{- end }}

{{/* What a schema cannot say, or not in words. */}}
{{- define "merbridge.check" -}}
{{- $address := .Values.listen.address }}
{{- $octet := "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])" }}
{{- $ip4 := printf "%s([.]%s){3}" $octet $octet }}
{{- if not (regexMatch (printf "^(%s|[0-9a-fA-F:]*:[0-9a-fA-F:]*(:%s)?)$" $ip4 $ip4) $address) }}
{{- fail (printf "listen.address: %s is no IP address: give one such as 127.0.0.1 or ::1, without brackets" $address) }}
{{- end }}
{{- if and .Values.prometheus.scrape (regexMatch "^(127[.]|::1$)" $address) }}
{{- fail (printf "prometheus.scrape: nobody beyond the node hears %s: give another listen.address, such as 0.0.0.0" $address) }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if or (hasPrefix "MERBRIDGE_" .name) (eq .name "NODE_NAME") }}
{{- fail (printf "extraEnv: %s is the chart's own: the agent's settings are given in settings and listen" .name) }}
{{- end }}
{{- end }}
{{- range $key, $_ := .Values.podLabels }}
{{- if or (eq $key "app") (hasPrefix "app.kubernetes.io/" $key) }}
{{- fail (printf "podLabels: %s is the chart's own" $key) }}
{{- end }}
{{- end }}
{{- $scraped := .Values.prometheus.scrape }}
{{- range $key, $_ := .Values.podAnnotations }}
{{- if or (hasPrefix "container.apparmor." $key) (and $scraped (hasPrefix "prometheus.io/" $key)) }}
{{- fail (printf "podAnnotations: %s is the chart's own" $key) }}
{{- end }}
{{- end }}
{{- end }}
