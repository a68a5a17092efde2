// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// apply changes the pod's JSON.
func (p *plan) apply(pod object) error {
	for _, step := range []func(object) error{p.annotate, p.placeSidecar, p.placeVolumes, p.tellContainers, p.changeSpec} {
		if err := step(pod); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) annotate(pod object) error {
	metadata, err := below(pod, "metadata")
	if err != nil {
		return err
	}
	notes, err := below(metadata, "annotations")
	if err != nil {
		return err
	}
	notes[v1alpha1.AnnotationInjected] = p.settings.Version
	return nil
}

// placeSidecar makes our container the last of the init containers, wherever it was: what starts last ends first, so a
// mesh's proxy outlives it.
func (p *plan) placeSidecar(pod object) error {
	spec, err := below(pod, "spec")
	if err != nil {
		return err
	}
	all, err := objects(spec, "initContainers")
	if err != nil {
		return err
	}
	fresh, err := objectOf(p.sidecar())
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(all, named(v1alpha1.SidecarName)); i >= 0 && p.again {
		fresh = renew(all[i], fresh)
	}
	all = slices.DeleteFunc(all, named(v1alpha1.SidecarName))
	spec["initContainers"] = listOf(append(all, fresh))
	return nil
}

// renew is our container of this version with what others did to it. Where the image comes from, when it is pulled and
// how it is probed is theirs to change: rewriters of registries, AlwaysPullImages and meshes do.
func renew(found, fresh object) object {
	renewed := maps.Clone(found)
	for key, value := range fresh {
		switch key {
		case "image", "imagePullPolicy", "startupProbe", "livenessProbe":
			if _, set := found[key]; set {
				continue
			}
			renewed[key] = value
		case "env", "ports":
			renewed[key] = overlayList(found[key], value, "name")
		case "volumeMounts":
			renewed[key] = overlayList(found[key], value, "mountPath")
		default:
			renewed[key] = overlay(found[key], value)
		}
	}
	return renewed
}

func (p *plan) placeVolumes(pod object) error {
	spec, err := below(pod, "spec")
	if err != nil {
		return err
	}
	all, err := objects(spec, "volumes")
	if err != nil {
		return err
	}
	for _, v := range p.volumes() {
		fresh, err := objectOf(v)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, named(v.Name))
		switch {
		case i < 0:
			all = append(all, fresh)
		case p.again && sameKeys(all[i], fresh):
			all[i] = merge(all[i], fresh)
		default:
			all[i] = fresh
		}
	}
	spec["volumes"] = listOf(all)
	return nil
}

// tellContainers says where to post events. Init containers that end before the dispatcher starts are told nothing.
func (p *plan) tellContainers(pod object) error {
	spec, err := below(pod, "spec")
	if err != nil {
		return err
	}
	for _, list := range []string{"initContainers", "containers"} {
		all, err := objects(spec, list)
		if err != nil {
			return err
		}
		for _, c := range all {
			if c["name"] == v1alpha1.SidecarName || list == "initContainers" && c["restartPolicy"] != string(corev1.ContainerRestartPolicyAlways) {
				continue
			}
			if err := tell(c); err != nil {
				return err
			}
		}
	}
	return nil
}

func tell(container object) error {
	env, err := objects(container, "env")
	if err != nil || slices.ContainsFunc(env, named(v1alpha1.EventsURLVariable)) {
		return err
	}
	container["env"] = listOf(append(env, object{"name": v1alpha1.EventsURLVariable, "value": EventsURL}))
	return nil
}

func (p *plan) changeSpec(pod object) error {
	spec, err := below(pod, "spec")
	if err != nil {
		return err
	}
	if p.raise {
		spec["terminationGracePeriodSeconds"] = p.grace
	}
	if !p.ownVolume() {
		return nil
	}
	security, err := below(spec, "securityContext")
	if err != nil || security["fsGroup"] != nil {
		return err // the dispatcher is in the pod's group then, whatever it is
	}
	// A file system of its own belongs to root until the kubelet gives it to the group.
	security["fsGroup"] = user
	if security["fsGroupChangePolicy"] == nil {
		security["fsGroupChangePolicy"] = string(corev1.FSGroupChangeOnRootMismatch)
	}
	return nil
}
