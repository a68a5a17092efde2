// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/controlplane"
	"github.com/garyclub/webhook-operator/internal/fixture/pki"
)

// The suite: one real API server with our CRDs, and a namespace and a manager for each story.
var (
	plane  *controlplane.ControlPlane
	scheme = runtime.NewScheme()
	// ca signs what the receivers show, but for those that a stranger's shall be shown by.
	ca       = pki.NewCA("Suite CA")
	stranger = pki.NewCA("Stranger CA")
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard()) // what is logged without a manager's logger
	SetDefaultEventuallyTimeout(20 * time.Second)
	SetDefaultEventuallyPollingInterval(20 * time.Millisecond)
	controlplane.Main(m, func(ctx context.Context, c *controlplane.ControlPlane) error {
		plane = c
		for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
			if err := add(scheme); err != nil {
				return err
			}
		}
		return c.InstallCRDs(ctx, "../config/crd/bases")
	})
}
