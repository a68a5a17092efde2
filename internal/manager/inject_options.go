// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/garyclub/webhook-operator/internal/inject"
	"github.com/garyclub/webhook-operator/internal/version"
)

// CertificatesOwn is the InjectOptions.InjectCertificates with which the manager's own CA makes the certificate.
const CertificatesOwn = "own"

// InjectOptions are the settings of the injection of dispatchers into pods.
type InjectOptions struct {
	// DispatcherImage is what is injected. Without it there is no injection: nothing listens for it, nothing is watched
	// for it, and labelled pods are refused by the API server as long as a MutatingWebhookConfiguration asks for them.
	DispatcherImage string
	// DispatcherPullPolicy is empty for the API server's default.
	DispatcherPullPolicy string
	// DispatcherArgs are further flags of all injected dispatchers, such as --max-in-flight=256.
	DispatcherArgs []string
	// WebhookListen is the address that the API server calls.
	WebhookListen string
	// InjectCertificates is CertificatesOwn, or a folder with tls.crt and tls.key that somebody else keeps up to date. Whoever
	// that is puts the CA into the MutatingWebhookConfiguration too.
	InjectCertificates string
}

func defaultInjectOptions() InjectOptions {
	return InjectOptions{WebhookListen: ":9444", InjectCertificates: CertificatesOwn}
}

// Injects says whether there is an injection.
func (o *InjectOptions) Injects() bool { return o.DispatcherImage != "" }

func (o *InjectOptions) ownCertificates() bool { return o.InjectCertificates == CertificatesOwn }

func (o *InjectOptions) validate() []error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, _, err := splitListen(o.WebhookListen); err != nil {
		refuse("--webhook-listen: must be host:port, with a port from 1 to 65535")
	}
	if o.InjectCertificates == "" {
		refuse("--inject-certificates: must be %s or a folder", CertificatesOwn)
	}
	if strings.ContainsAny(o.DispatcherImage, " \t\n") {
		refuse("--dispatcher-image: must be the name of an image")
	}
	policies := []corev1.PullPolicy{"", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever}
	if !slices.Contains(policies, corev1.PullPolicy(o.DispatcherPullPolicy)) {
		refuse("--dispatcher-pull-policy: must be Always, IfNotPresent or Never, or empty for the API server's default")
	}
	for i, arg := range o.DispatcherArgs {
		flag, isFlag := flagOf(arg)
		switch {
		case !isFlag:
			refuse("--dispatcher-arg: number %d must be a flag with its value, as in --max-in-flight=256", i+1)
		case slices.Contains(inject.OwnFlags(), flag):
			refuse("--dispatcher-arg: number %d: the injection sets --%s by itself", i+1, flag)
		}
	}
	return errs
}

// flagOf is the name in -name, --name or --name=value.
func flagOf(arg string) (string, bool) {
	name, dashed := strings.CutPrefix(arg, "-")
	name = strings.TrimPrefix(name, "-")
	name, _, _ = strings.Cut(name, "=")
	return name, dashed && name != "" && name[0] != '-'
}

// splitListen is for a server that takes host and port apart, and 0 for a default of its own.
func splitListen(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil || number == 0 {
		return "", 0, fmt.Errorf("no port: %w", err)
	}
	return host, int(number), nil
}

// injectSettings are what all injected dispatchers have in common. What the manager may reach with its test events, they
// may reach with their deliveries, and by the same way.
func (o *Options) injectSettings() inject.Settings {
	s := inject.DefaultSettings()
	s.Image, s.PullPolicy = o.DispatcherImage, corev1.PullPolicy(o.DispatcherPullPolicy)
	s.Version, s.Serves = version.String(), o.serves
	s.ManagerAddress = "webhook-manager-control." + o.Namespace + ".svc:9443"
	for _, allowed := range o.EgressAllow {
		s.Args = append(s.Args, "--egress-allow="+allowed.String())
	}
	if o.EgressProxy != "" {
		s.Args = append(s.Args, "--egress-proxy="+o.EgressProxy)
	}
	s.Args = append(s.Args, o.DispatcherArgs...)
	return s
}
