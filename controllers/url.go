// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/egress"
)

const (
	maxURL       = 2048 // characters, as for spec.url
	maxHostBytes = 253
)

// checkURL judges a URL by the rules that admission applies to spec.url, for one that comes from a Secret, and bounds
// the host for both. The message says the rule and nothing of the URL.
func checkURL(text, field string) error {
	invalid := func(rule string) error {
		return &refusal{reason: v1alpha1.ReasonInvalidURL, message: "the URL of " + field + " " + rule, stalled: true}
	}
	switch {
	case text == "":
		return invalid("is empty")
	case utf8.RuneCountInString(text) > maxURL:
		return invalid("is longer than 2048 characters")
	case !strings.HasPrefix(text, "https://"):
		return invalid("must begin with https://, since call data is never sent unencrypted")
	case strings.Contains(text, "#"):
		return invalid("must not contain a fragment: remove the # and what follows")
	case !utf8.ValidString(text), strings.ContainsFunc(text, notInURL):
		return invalid("must not contain spaces, line breaks or other control characters")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return invalid("must be an absolute URL with a host, for example https://hooks.example.com/catch/1")
	case u.User != nil:
		return invalid("must not contain user information: send credentials as a header with valueFrom")
	case len(u.Hostname()) > maxHostBytes:
		return invalid("has a host name of more than 253 characters")
	}
	if strings.ContainsFunc(u.Host, func(r rune) bool { return r > unicode.MaxASCII }) {
		return invalid("must have a host in ASCII: write an international name in its xn-- form")
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || port == 0) {
		return invalid("must have a port from 1 to 65535, or none for 443")
	}
	return nil
}

// shownHost is the host of a URL that checkURL accepts, with its port when it has one; all of a URL that may be shown. A
// port may have any number of zeros in front, which the bound of status.host has no room for.
func shownHost(text string) string {
	host := egress.Host(text)
	at := strings.LastIndexByte(host, ':')
	if at < 0 || strings.HasSuffix(host, "]") {
		return host
	}
	return strings.TrimSuffix(host[:at+1]+strings.TrimLeft(host[at+1:], "0"), ":")
}

// notInURL is what the API's rule calls a control character or a separator.
func notInURL(r rune) bool { return unicode.In(r, unicode.C, unicode.Z) }
