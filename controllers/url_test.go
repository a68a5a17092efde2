// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"strings"
	"testing"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/egress"
)

func TestCheckURL(t *testing.T) {
	long := "https://hush.test/" + strings.Repeat("x", 2048)
	for name, tc := range map[string]struct {
		url  string
		want string // part of the message; empty when the URL is in order
	}{
		"a URL":                       {"https://hush.test", ""},
		"with port, path and query":   {"https://hush.test:8443/hush?key=hush&b=%20", ""},
		"an address":                  {"https://10.0.0.1/hush", ""},
		"an address of IPv6":          {"https://[fd00::1]:8443/hush", ""},
		"the highest port":            {"https://hush.test:65535/", ""},
		"an at sign in the path":      {"https://hush.test/@hush", ""},
		"nothing":                     {"", "is empty"},
		"too long":                    {long, "longer than 2048"},
		"just long enough":            {long[:2048], ""},
		"in characters":               {"https://hush.test/" + strings.Repeat("é", 2030), ""},
		"http":                        {"http://hush.test/hush", "must begin with https://"},
		"upper case":                  {"HTTPS://hush.test/hush", "must begin with https://"},
		"no scheme":                   {"hush.test/hush", "must begin with https://"},
		"a fragment":                  {"https://hush.test/hush#hush", "fragment"},
		"an empty fragment":           {"https://hush.test/hush#", "fragment"},
		"a space":                     {"https://hush.test/hush hush", "spaces"},
		"a line break":                {"https://hush.test/hush\nhush", "line breaks"},
		"a soft hyphen":               {"https://hush.test/hush\u00adhush", "control characters"},
		"a no-break space":            {"https://hush.test/hush\u00a0hush", "spaces"},
		"no UTF-8":                    {"https://hush.test/hush\xffhush", "control characters"},
		"no host":                     {"https:///hush", "with a host"},
		"no host but a port":          {"https://:443/hush", "with a host"},
		"a bad escape":                {"https://hush.test/%zz", "absolute URL"},
		"a bad port":                  {"https://hush.test:hush/", "absolute URL"},
		"user information":            {"https://hush:hush@hush.test/", "user information"},
		"a user":                      {"https://hush@hush.test/", "user information"},
		"port 0":                      {"https://hush.test:0/", "a port from 1 to 65535"},
		"a port too high":             {"https://hush.test:65536/", "a port from 1 to 65535"},
		"a long host":                 {"https://" + strings.Repeat("hush.", 51) + "test/", "more than 253"},
		"a host beyond ASCII":         {"https://hüsh.test/hush", "xn--"},
		"a host beyond ASCII escaped": {"https://h%C3%BCsh.test/hush", "xn--"},
		"a path beyond ASCII":         {"https://hush.test/hüsh", ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkURL(tc.url, "spec.urlFrom")
			if tc.want == "" {
				if err != nil || egress.Host(tc.url) == "" {
					t.Errorf("refused: %v, host %q", err, egress.Host(tc.url))
				}
				return
			}
			var refused *refusal
			if !errors.As(err, &refused) || refused.reason != v1alpha1.ReasonInvalidURL || !refused.stalled {
				t.Fatalf("error is %+v", err)
			}
			if !strings.HasPrefix(refused.message, "the URL of spec.urlFrom ") || !strings.Contains(refused.message, tc.want) {
				t.Errorf("message %q, want %q", refused.message, tc.want)
			}
			if strings.Contains(refused.message, "hush") || strings.Contains(refused.message, "hüsh") {
				t.Errorf("message quotes the URL: %q", refused.message)
			}
		})
	}
}

func TestShownHost(t *testing.T) {
	zeros := strings.Repeat("0", 1700)
	for url, want := range map[string]string{
		"https://a.test/x":                   "a.test",
		"https://a.test":                     "a.test",
		"https://a.test:8443/x":              "a.test:8443",
		"https://a.test:" + zeros + "8443/x": "a.test:8443",
		"https://a.test:08000/":              "a.test:8000",
		"https://a.test:/x":                  "a.test",
		"https://[fd00::1]/x":                "[fd00::1]",
		"https://[fd00::1]:0443/x":           "[fd00::1]:443",
		"https://" + strings.Repeat("a.", 126) + "a:" + zeros + "65535": strings.Repeat("a.", 126) + "a:65535",
		"": "",
	} {
		got := shownHost(url)
		if got != want || len(got) > 262 {
			t.Errorf("%.60q: %d bytes, %q, want %q", url, len(got), got, want)
		}
		if url != "" && checkURL(url, "spec.url") != nil {
			t.Errorf("%.60q is no URL", url)
		}
	}
}
