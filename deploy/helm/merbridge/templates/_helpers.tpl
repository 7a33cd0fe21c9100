{{/* Names may look like numbers or booleans, such as 123 or true: in YAML they are quoted wherever they are put. */}}

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
app: {{ include "merbridge.fullname" . | quote }}
{{- end }}

{{- define "merbridge.identity" -}}
app.kubernetes.io/name: {{ include "merbridge.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "merbridge.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{ include "merbridge.identity" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
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

{{- define "merbridge.ip4Pattern" -}}
{{- $octet := "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])" }}
{{- printf "%s([.]%s){3}" $octet $octet }}
{{- end }}

{{/* An IPv6 address as eight groups without leading zeros, ::1 as 0:0:0:0:0:0:0:1; empty for what is none. */}}
{{- define "merbridge.ip6" -}}
{{- $text := lower . }}
{{- with regexFind (printf ":%s$" (include "merbridge.ip4Pattern" "")) $text }}
{{- $octets := trimPrefix ":" . | splitList "." }}
{{- $high := add (mul 256 (index $octets 0)) (index $octets 1) }}
{{- $low := add (mul 256 (index $octets 2)) (index $octets 3) }}
{{- $text = printf "%s:%x:%x" (trimSuffix . $text) $high $low }}
{{- end }}
{{- $groups := "[0-9a-f]{1,4}(:[0-9a-f]{1,4})*" }}
{{- $formed := regexMatch (printf "^(%s)?(::(%s)?)?$" $groups $groups) $text }}
{{- $missing := regexFindAll "[0-9a-f]+" $text -1 | len | sub 8 | int }}
{{- if and $formed (contains "::" $text | ternary (ge $missing 1) (eq $missing 0)) }}
{{- regexReplaceAll "\\b0+([0-9a-f])" $text "${1}" | replace "::" (printf ":%s" (repeat $missing "0:")) | trimAll ":" }}
{{- end }}
{{- end }}

{{/* listen.address in its one form. */}}
{{- define "merbridge.address" -}}
{{- include "merbridge.ip6" .Values.listen.address | default .Values.listen.address }}
{{- end }}

{{/* Where the kubelet asks what listens at listen.address. */}}
{{- define "merbridge.probed" -}}
{{- $everywhere := dict "0.0.0.0" "127.0.0.1" "0:0:0:0:0:ffff:0:0" "127.0.0.1" "0:0:0:0:0:0:0:0" "::1" }}
{{- get $everywhere (include "merbridge.address" .) | default .Values.listen.address | quote }}
{{- end }}

{{/* What a schema cannot say, or not in words. */}}
{{- define "merbridge.check" -}}
{{- include "merbridge.checkListen" . }}
{{- include "merbridge.checkPorts" . }}
{{- include "merbridge.checkExtraEnv" . }}
{{- include "merbridge.checkPodMetadata" . }}
{{- if eq (toString .Values.enabled) "false" }}
{{- fail "enabled: false takes nothing away here: it is for the condition of a chart that depends on this one" }}
{{- end }}
{{- if and .Values.rbac.create (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) }}
{{- fail "serviceAccount.name: none is given or created, and the role is not bound to `default`: name one, or set rbac.create=false" }}
{{- end }}
{{- end }}

{{- define "merbridge.checkListen" -}}
{{- $given := .Values.listen.address }}
{{- if not (or (include "merbridge.ip6" $given) (regexMatch (printf "^%s$" (include "merbridge.ip4Pattern" "")) $given)) }}
{{- fail (printf "listen.address: %s is no IP address: give one such as 127.0.0.1 or ::1, without brackets" (default "''" $given)) }}
{{- end }}
{{- $loopback := "^(127[.]|0:0:0:0:0:0:0:1$|0:0:0:0:0:ffff:7f..:)" }}
{{- if and .Values.prometheus.scrape (regexMatch $loopback (include "merbridge.address" .)) }}
{{- fail (printf "prometheus.scrape: nobody beyond the node hears %s: give another listen.address, such as 0.0.0.0" $given) }}
{{- end }}
{{- end }}

{{/* The numbers are the agent's defaults (merbridge/config/settings.py). */}}
{{- define "merbridge.checkPorts" -}}
{{- $settings := .Values.settings }}
{{- $taken := dict (.Values.listen.port | int64 | toString) "listen.port" }}
{{- range $name, $default := dict "outPort" 15001 "inPort" 15006 "hbonePort" 15008 "dnsPort" 15053 }}
{{- $port := get $settings $name | default $default | int64 | toString }}
{{- if hasKey $taken $port }}
{{- fail (printf "settings.%s: %s is also that of %s: each has a port of its own" $name $port (get $taken $port)) }}
{{- end }}
{{- $_ := set $taken $port (printf "settings.%s" $name) }}
{{- end }}
{{- end }}

{{- define "merbridge.checkExtraEnv" -}}
{{- $names := dict }}
{{- range .Values.extraEnv }}
{{- if or (hasPrefix "MERBRIDGE_" .name) (eq .name "NODE_NAME") }}
{{- fail (printf "extraEnv: %s is the chart's own: the agent's settings are given in settings and listen" .name) }}
{{- end }}
{{- if hasKey $names .name }}
{{- fail (printf "extraEnv: %s is given twice" .name) }}
{{- end }}
{{- if and (hasKey . "value") (hasKey . "valueFrom") }}
{{- fail (printf "extraEnv: %s has both value and valueFrom: give one of them" .name) }}
{{- end }}
{{- $_ := set $names .name true }}
{{- end }}
{{- end }}

{{- define "merbridge.checkPodMetadata" -}}
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
