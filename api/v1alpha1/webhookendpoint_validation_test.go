// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const validEndpoint = `
apiVersion: webhooks.gary.club/v1alpha1
kind: WebhookEndpoint
metadata: {name: valid}
spec:
  url: https://hooks.example.com/catch/123
  events: [call.completed]
`

// Parts of the messages, which say what to write instead.
const (
	wantHTTPS      = "url must begin with https://"
	wantNoUser     = "url must not contain user information: remove what stands before the @"
	wantNoFragment = "url must not contain a fragment: remove the #"
	wantAbsolute   = "url must be an absolute URL with a host and without spaces, for example https://"
	wantPort       = "url must have a port from 1 to 65535"
	wantType       = "unknown event type: use call.completed, booking.created, contact.created, or a type of your own as custom.<name>"
	wantOneURL     = "set either url or urlFrom"
	wantByID       = "remove it and let the receiver deduplicate by webhook-id"
	wantReserved   = "reserved: use a name of your own, for example X-Client"
	wantToken      = "a header name has letters, digits and hyphens only"
	wantVisible    = "a header value has visible ASCII characters and spaces only, no line breaks"
	wantOneValue   = "a header has either value or valueFrom"
	wantOnce       = "a header is named twice: names are compared without regard to case"
	wantWindow     = "initialBackoffSeconds must not be more than maxBackoffSeconds"
	wantRoom       = "deadlineSeconds must be at least timeoutSeconds + maxRetries * initialBackoffSeconds"
	wantServerName = "serverName is a host name in lower case, without scheme, port and wildcard"
	wantCode       = `a success code is "200" to "299", or "2xx"`
)

func spec(format string, args ...any) string { return "spec:\n  " + fmt.Sprintf(format, args...) }

func urlRow(name, url, want string) row { return row{name, spec("url: %q", url), want} }

func headerRow(name, header, want string) row {
	return row{name, spec("headers: [{name: %q, value: x}]", header), want}
}

func valueRow(name, value, want string) row {
	return row{name, spec("headers: [{name: X-Client, value: %s}]", value), want}
}

func TestEndpointURL(t *testing.T) {
	const prefix = "https://hooks.example.com/"
	tryAll(t, endpoints, validEndpoint, []row{
		{"as it is", `{}`, ""},
		urlRow("port", "https://hooks.example.com:8443/a", ""),
		urlRow("highest port", "https://hooks.example.com:65535/a", ""),
		urlRow("query", "https://hooks.example.com/a?key=b&c=d@e", ""),
		urlRow("at sign in the path", "https://hooks.example.com/@me", ""),
		urlRow("escaped hash sign", "https://hooks.example.com/a%23b", ""),
		urlRow("no path", "https://hooks.example.com", ""),
		urlRow("address", "https://203.0.113.7/a", ""),
		urlRow("IPv6 address", "https://[2001:db8::1]:443/a", ""),
		urlRow("host in another script", "https://büro.example.com/a", ""),
		urlRow("as long as can be", prefix+strings.Repeat("a", 2048-len(prefix)), ""),

		urlRow("http", "http://hooks.example.com/a", wantHTTPS),
		urlRow("HTTPS in capitals", "HTTPS://hooks.example.com/a", wantHTTPS),
		urlRow("ftp", "ftp://hooks.example.com/a", wantHTTPS),
		urlRow("no scheme", "hooks.example.com/a", wantHTTPS),
		urlRow("scheme only by slashes", "//hooks.example.com/a", wantHTTPS),
		urlRow("bare path", "/catch/123", wantHTTPS),
		urlRow("space before", " https://hooks.example.com/a", wantHTTPS),
		urlRow("user and password", "https://user:pass@hooks.example.com/a", wantNoUser),
		urlRow("user", "https://user@hooks.example.com/a", wantNoUser),
		urlRow("empty user", "https://@hooks.example.com/a", wantNoUser),
		urlRow("user with http", "http://user@hooks.example.com/a", wantNoUser),
		urlRow("user behind a backslash", `https://hooks.example.com\@other.example/a`, wantNoUser),
		urlRow("fragment", "https://hooks.example.com/a#b", wantNoFragment),
		urlRow("empty fragment", "https://hooks.example.com/a#", wantNoFragment),
		urlRow("no host", "https:///a", wantAbsolute),
		urlRow("nothing but the scheme", "https://", wantAbsolute),
		urlRow("port without host", "https://:8443/a", wantAbsolute),
		urlRow("scheme without slashes", "https:hooks.example.com/a", wantHTTPS),
		urlRow("space", "https://hooks.example.com/a b", wantAbsolute),
		urlRow("space after", "https://hooks.example.com/a ", wantAbsolute),
		urlRow("space in the host", "https://hooks example.com/a", wantAbsolute),
		urlRow("line break", "https://hooks.example.com/a\n", wantAbsolute),
		urlRow("carriage return and header", "https://hooks.example.com/a\r\nX-Evil: 1", wantAbsolute),
		urlRow("tab", "https://hooks.example.com/a\tb", wantAbsolute),
		urlRow("control character", "https://hooks.example.com/a\u0007b", wantAbsolute),
		urlRow("C1 control character", "https://hooks.example.com/a\u0085b", wantAbsolute),
		urlRow("no-break space", "https://hooks.example.com/a\u00a0b", wantAbsolute),
		urlRow("invisible character", "https://hooks.example.com/a\u200bb", wantAbsolute),
		urlRow("broken escape", "https://hooks.example.com/%zz", wantAbsolute),
		urlRow("backslash host", `https:\\hooks.example.com\a`, wantHTTPS),
		urlRow("port that is no number", "https://hooks.example.com:https/a", wantAbsolute),
		urlRow("port too high", "https://hooks.example.com:65536/a", wantPort),
		urlRow("port zero", "https://hooks.example.com:0/a", wantPort),
		urlRow("endless port", "https://hooks.example.com:"+strings.Repeat("9", 40)+"/a", wantPort),
		urlRow("too long", prefix+strings.Repeat("a", 2049-len(prefix)), "may not be more than 2048"),
		urlRow("empty", "", "spec.url"),
		{"a number", spec("url: 1"), "must be of type string"},

		{"neither", spec("url: null"), wantOneURL},
		{"both", spec("urlFrom: {secretKeyRef: {name: a, key: url}}"), wantOneURL},
		{"from a Secret", "spec: {url: null, urlFrom: {secretKeyRef: {name: a, key: url}}}", ""},
		{"from a Secret without a key", "spec: {url: null, urlFrom: {secretKeyRef: {name: a}}}", "spec.urlFrom.secretKeyRef.key: Required"},
		{"from a Secret without a name", "spec: {url: null, urlFrom: {secretKeyRef: {key: url}}}", "spec.urlFrom.secretKeyRef.name: Required"},
		{"from nothing", "spec: {url: null, urlFrom: {}}", "spec.urlFrom.secretKeyRef: Required"},
	})
}

func TestEndpointEvents(t *testing.T) {
	many := func(n int) string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf("custom.a%d", i)
		}
		return strings.Join(list, ", ")
	}
	tryAll(t, endpoints, validEndpoint, []row{
		{"the page's types", spec("events: [call.completed, booking.created, contact.created]"), ""},
		{"own type", spec("events: [custom.invoice_paid]"), ""},
		{"own type of one letter", spec("events: [custom.a]"), ""},
		{"own type with dots", spec("events: [custom.crm.lead-won]"), ""},
		{"own type as long as can be", spec("events: [custom.%s]", strings.Repeat("a", 63)), ""},
		{"32 types", spec("events: [%s]", many(32)), ""},

		{"typing error", spec("events: [call.complete]"), wantType},
		{"the page's words", spec("events: [Call completed]"), wantType},
		{"capitals", spec("events: [Call.Completed]"), wantType},
		{"second of two", spec("events: [call.completed, booking.made]"), "spec.events[1]"},
		{"type without custom", spec("events: [invoice.paid]"), wantType},
		{"custom without a name", spec("events: [custom.]"), wantType},
		{"custom alone", spec("events: [custom]"), wantType},
		{"custom in capitals", spec("events: [custom.Invoice]"), wantType},
		{"custom that ends in a dot", spec("events: [custom.a.]"), wantType},
		{"custom with 64 characters", spec("events: [custom.%s]", strings.Repeat("a", 64)), wantType},
		{"custom with a line break", spec(`events: ["custom.a\n"]`), wantType},
		{"asterisk", spec("events: ['*']"), wantType},
		{"empty type", spec("events: ['']"), wantType},
		{"too long a type", spec("events: [custom.%s]", strings.Repeat("a", 65)), "may not be more than 71"},
		{"none", spec("events: []"), "spec.events in body should have at least 1 items"},
		{"absent", spec("events: null"), "spec.events: Required"},
		{"twice", spec("events: [call.completed, call.completed]"), `spec.events[1]: Duplicate value: "call.completed"`},
		{"33 types", spec("events: [%s]", many(33)), "must have at most 32 items"},

		{"agents", spec("agents: [agent_xyz, agent_abc]"), ""},
		{"agent twice", spec("agents: [agent_xyz, agent_xyz]"), `spec.agents[1]: Duplicate value: "agent_xyz"`},
		{"empty agent", spec("agents: ['']"), "spec.agents[0] in body should be at least 1 chars"},
		{"too long an agent", spec("agents: [%s]", strings.Repeat("a", 129)), "may not be more than 128"},
		{"display name", spec(`displayName: "Zapier — New Call to Google Sheets"`), ""},
		{"too long a display name", spec("displayName: %s", strings.Repeat("a", 129)), "may not be more than 128"},
	})
}

func TestEndpointHeaders(t *testing.T) {
	const fromSecret = "valueFrom: {secretKeyRef: {name: a, key: b}}"
	list := func(n int) string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf("{name: X-%d, value: x}", i)
		}
		return strings.Join(all, ", ")
	}
	rows := []row{
		headerRow("of the user", "X-Client", ""),
		headerRow("authorization", "Authorization", ""),
		headerRow("every sign that a token has", "!#$%&'*+-.^_`|~9aZ", ""),
		headerRow("name that begins like a reserved one", "Hostname", ""),
		headerRow("name that ends like a reserved one", "X-Host", ""),
		{"from a Secret", spec("headers: [{name: Authorization, %s}]", fromSecret), ""},
		{"20 of them", spec("headers: [%s]", list(20)), ""},
		valueRow("empty", "''", ""),
		valueRow("tab", `"a\tb"`, ""),

		headerRow("space", "X Client", wantToken),
		headerRow("colon", "X-Client:", wantToken),
		headerRow("line break", "X-Client\nX-Evil", wantToken),
		headerRow("line break at the end", "X-Client\n", wantToken),
		headerRow("umlaut", "X-Büro", wantToken),
		headerRow("quotes", `"X"`, wantToken),
		headerRow("empty name", "", "headers[0].name in body should be at least 1 chars"),
		headerRow("too long a name", strings.Repeat("a", 65), "may not be more than 64"),

		valueRow("value with line feed", `"a\nX-Evil: 1"`, wantVisible),
		valueRow("value with carriage return", `"a\rb"`, wantVisible),
		valueRow("value with line feed at the end", `"a\n"`, wantVisible),
		valueRow("value with NUL", `"a\0b"`, wantVisible),
		valueRow("value with delete", `"a\u007fb"`, wantVisible),
		valueRow("value with umlaut", `"Büro"`, wantVisible),
		valueRow("too long a value", strings.Repeat("a", 2049), "may not be more than 2048"),

		{"neither value nor valueFrom", spec("headers: [{name: X-Client}]"), wantOneValue},
		{"both value and valueFrom", spec("headers: [{name: X-Client, value: a, %s}]", fromSecret), wantOneValue},
		{"valueFrom nothing", spec("headers: [{name: X-Client, valueFrom: {}}]"), "secretKeyRef: Required"},
		{"no name", spec("headers: [{value: a}]"), "spec.headers[0].name: Required"},
		{"twice", spec("headers: [{name: X-A, value: a}, {name: X-A, value: b}]"), "Duplicate value"},
		{"twice in another case", spec("headers: [{name: X-A, value: a}, {name: x-a, value: b}]"), wantOnce},
		{"21 of them", spec("headers: [%s]", list(21)), "must have at most 20 items"},
	}
	for name := range strings.FieldsSeq(`webhook-id Webhook-Signature WEBHOOK-TIMESTAMP webhook-test webhook-anything Host
		Content-Length content-type Content-Encoding Transfer-Encoding Connection Keep-Alive TE Trailer Upgrade Expect
		Proxy-Authorization proxy-connection User-Agent Accept-Encoding traceparent Tracestate`) {
		rows = append(rows, headerRow("reserved "+name, name, wantReserved))
	}
	for _, name := range []string{"Idempotency-Key", "x-idempotency-key"} {
		rows = append(rows, headerRow("reserved "+name, name, wantByID))
	}
	rows = append(rows, headerRow("name that ends like a key", "X-My-Idempotency-Key", ""))
	tryAll(t, endpoints, validEndpoint, rows)
}

func TestEndpointPolicy(t *testing.T) {
	rows := []row{
		{"retry window of one length", spec("retry: {initialBackoffSeconds: 300}"), ""},
		{"first wait longer than the longest", spec("retry: {initialBackoffSeconds: 301}"), wantWindow},
		{"longest wait shorter than the first", spec("retry: {maxBackoffSeconds: 4}"), wantWindow},
		{"window names its field", spec("retry: {maxBackoffSeconds: 4}"), "spec.retry.initialBackoffSeconds"},
		{"deadline that just fits", spec("retry: {deadlineSeconds: 25}"), ""},
		{"deadline too short by one", spec("retry: {deadlineSeconds: 24}"), wantRoom},
		{"deadline too short for the timeout", "spec: {timeoutSeconds: 30, retry: {deadlineSeconds: 29, maxRetries: 0}}", wantRoom},
		{"no retries and the shortest deadline", spec("retry: {maxRetries: 0, deadlineSeconds: 10}"), ""},
		{"retry that is null", spec("retry: null"), ""},

		{"codes", spec(`successCodes: ["200", "202"]`), ""},
		{"class of codes", spec("successCodes: [2xx]"), ""},
		{"highest code", spec(`successCodes: ["299"]`), ""},
		{"redirect as success", spec(`successCodes: ["302"]`), wantCode},
		{"class of redirects", spec("successCodes: [3xx]"), wantCode},
		{"class in capitals", spec("successCodes: [2XX]"), wantCode},
		{"half a class", spec("successCodes: [20x]"), wantCode},
		{"too long a code", spec(`successCodes: ["2000"]`), "may not be more than 3"},
		{"code as a number", spec("successCodes: [200]"), "must be of type string"},
		{"no codes", spec("successCodes: []"), "should have at least 1 items"},
		{"code twice", spec(`successCodes: ["200", "200"]`), "Duplicate value"},

		{"signing Secret", spec("signing: {secretRef: {name: a}, deletionPolicy: Delete}"), ""},
		{"signing Secret without a name", spec("signing: {secretRef: {}}"), "spec.signing.secretRef.name: Required"},
		{"unknown deletion policy", spec("signing: {deletionPolicy: Keep}"), `supported values: "Retain", "Delete"`},

		{"tls", spec("tls: {caSecretRef: {name: a}, clientCertificateSecretRef: {name: b}, serverName: crm.example.com}"), ""},
		{"empty tls", spec("tls: {}"), ""},
		{"server name of one label", spec("tls: {serverName: crm}"), ""},
		{"server name with port", spec("tls: {serverName: 'crm.example.com:443'}"), wantServerName},
		{"server name as URL", spec("tls: {serverName: 'https://crm.example.com'}"), wantServerName},
		{"server name as wildcard", spec("tls: {serverName: '*.example.com'}"), wantServerName},
		{"server name in capitals", spec("tls: {serverName: CRM.example.com}"), wantServerName},
		{"server name with an empty label", spec("tls: {serverName: crm..example.com}"), wantServerName},
		{"server name with a dot at the end", spec("tls: {serverName: crm.example.com.}"), wantServerName},
		{"server name with a hyphen at the end", spec("tls: {serverName: crm-}"), wantServerName},
		{"server name with too long a label", spec("tls: {serverName: %s}", strings.Repeat("a", 64)), wantServerName},
		{"server name with a line break", spec(`tls: {serverName: "crm\n"}`), wantServerName},
		{"empty server name", spec("tls: {serverName: ''}"), "spec.tls.serverName"},
		{"CA Secret without a name", spec("tls: {caSecretRef: {key: ca.crt}}"), "spec.tls.caSecretRef.name: Required"},
		{"switch that turns verification off", spec("tls: {insecureSkipVerify: true}"), `unknown field "spec.tls.insecureSkipVerify"`},

		{"test on request", spec("test: {when: OnRequest, event: booking.created}"), ""},
		{"test of an unknown type", spec("test: {event: booking.made}"), wantType},
		{"test at an unknown time", spec("test: {when: Never}"), `supported values: "OnChange", "OnRequest"`},
		{"suspended", spec("suspend: true"), ""},
		{"suspended by a word", spec(`suspend: "true"`), "must be of type boolean"},
		{"no spec", "spec: null", "spec: Required"},
		{"typing error in a field", spec("timeoutSecond: 10"), `unknown field "spec.timeoutSecond"`},
	}
	for _, limit := range []struct {
		format   string // of the spec, with the figure
		low, top int
	}{
		{"timeoutSeconds: %d", 1, 30},
		{"maxInFlight: %d", 1, 256},
		{"retry: {maxRetries: %d}", 0, 10},
		{"retry: {initialBackoffSeconds: %d, maxBackoffSeconds: 86400}", 1, 3600},
		{"retry: {maxBackoffSeconds: %d, initialBackoffSeconds: 1}", 1, 86400},
		{"retry: {deadlineSeconds: %d, maxRetries: 0}", 10, 604800},
		{"history: {succeeded: %d}", 0, 100},
		{"history: {failed: %d}", 0, 500},
		{"history: {ttlSecondsAfterFinished: %d}", 60, 7776000},
	} {
		name := strings.ReplaceAll(limit.format, "%d", "")
		rows = append(rows,
			row{name + "lowest", spec(limit.format, limit.low), ""},
			row{name + "highest", spec(limit.format, limit.top), ""},
			row{name + "too low", spec(limit.format, limit.low-1), fmt.Sprintf("should be greater than or equal to %d", limit.low)},
			row{name + "too high", spec(limit.format, limit.top+1), fmt.Sprintf("should be less than or equal to %d", limit.top)},
		)
	}
	tryAll(t, endpoints, validEndpoint, rows)
}

// The rules hold for changes as well, and an object that is accepted can be changed back.
func TestEndpointChange(t *testing.T) {
	ns := namespace(t)
	client := plain.Resource(endpoints).Namespace(ns)
	if _, err := client.Create(t.Context(), document(t, validEndpoint), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []row{
		{"to http", `{"spec":{"url":"http://hooks.example.com/a"}}`, wantHTTPS},
		{"to both", `{"spec":{"urlFrom":{"secretKeyRef":{"name":"a","key":"b"}}}}`, wantOneURL},
		{"to another URL", `{"spec":{"url":"https://other.example.com/a"}}`, ""},
		{"to a Secret", `{"spec":{"url":null,"urlFrom":{"secretKeyRef":{"name":"a","key":"b"}}}}`, ""},
		{"back", `{"spec":{"url":"https://hooks.example.com/a","urlFrom":null}}`, ""},
		{"to an impossible deadline", `{"spec":{"retry":{"deadlineSeconds":10}}}`, wantRoom},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := client.Patch(t.Context(), "valid", types.MergePatchType, []byte(tc.mutation), metav1.PatchOptions{})
			expect(t, err, tc.want)
		})
	}
}

// A refusal names the field and nothing else: one mistake, one message, so that a person is not sent astray.
func TestEndpointRefusalNamesItsField(t *testing.T) {
	for _, tc := range []struct{ mutation, field string }{
		{spec("url: http://hooks.example.com/a"), "spec.url"},
		{spec("url: https://user@hooks.example.com/a"), "spec.url"},
		{spec("url: 'https://hooks.example.com/a b'"), "spec.url"},
		{spec("url: https://hooks.example.com:0/"), "spec.url"},
		{spec("events: [call.complete]"), "spec.events[0]"},
		{spec("headers: [{name: Host, value: a}]"), "spec.headers[0].name"},
		{spec("headers: [{name: X, value: Ä}]"), "spec.headers[0].value"},
		{spec("retry: {maxBackoffSeconds: 1}"), "spec.retry.initialBackoffSeconds"},
		{spec("retry: {deadlineSeconds: 10}"), "spec.retry.deadlineSeconds"},
		{spec("test: {event: a}"), "spec.test.event"},
		{spec("tls: {serverName: A}"), "spec.tls.serverName"},
	} {
		_, err := plain.Resource(endpoints).Namespace("default").Create(t.Context(), document(t, validEndpoint, tc.mutation),
			metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if got := fieldsOf(t, err); !slices.Equal(got, []string{tc.field}) {
			t.Errorf("%s is refused for %v, want %s alone\n  %v", tc.mutation, got, tc.field, err)
		}
	}
}
