// Command argocd-lua does with Kubernetes objects what Argo CD does, by Argo CD's own code and without a cluster.
//
//	argocd-lua CONFIGMAP health         the health of each object
//	argocd-lua CONFIGMAP discovery      the actions offered for each object, by name
//	argocd-lua CONFIGMAP action NAME    what that action makes of each object, and the patch that is sent
//
// CONFIGMAP is a file with Argo CD's configuration, argocd-cm. Objects are read from standard input as JSON, one
// per line, and each gets an answer as JSON on a line of its own.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v3/util/lua"
	"github.com/argoproj/argo-cd/v3/util/settings"
	"github.com/argoproj/gitops-engine/pkg/health"
	jsonpatch "github.com/evanphx/json-patch"
	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/yaml"
)

// namespace is where Argo CD looks for its configuration; any will do.
const namespace = "argocd"

// changed is the answer to an action: the object and the merge patch, or why there is none.
type changed struct {
	Object *unstructured.Unstructured `json:"object,omitempty"`
	Patch  json.RawMessage            `json:"patch,omitempty"`
	Error  string                     `json:"error,omitempty"`
}

// overrides reads the customizations as Argo CD's settings manager does: only a ConfigMap of the right name and
// label is found, and only keys of the right form count.
func overrides(path string) (map[string]v1alpha1.ResourceOverride, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var config corev1.ConfigMap
	if err := yaml.UnmarshalStrict(text, &config); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	config.Namespace = namespace
	manager := settings.NewSettingsManager(context.Background(), fake.NewClientset(&config), namespace)
	return manager.GetResourceOverrides()
}

// judge asks for the health of an object, as the application controller does.
func judge(customized map[string]v1alpha1.ResourceOverride, object *unstructured.Unstructured) (any, error) {
	status, err := health.GetResourceHealth(object, lua.ResourceHealthOverrides(customized))
	if err == nil && status == nil {
		err = errors.New("there is no health check for it")
	}
	return status, err
}

// discover lists the actions of an object, as the API server of Argo CD does.
func discover(customized map[string]v1alpha1.ResourceOverride, object *unstructured.Unstructured) (any, error) {
	vm := lua.VM{ResourceOverrides: customized}
	scripts, err := vm.GetResourceActionDiscovery(object)
	if err != nil {
		return nil, err
	}
	actions, err := vm.ExecuteResourceActionDiscovery(object, scripts)
	slices.SortFunc(actions, func(a, b v1alpha1.ResourceAction) int { return strings.Compare(a.Name, b.Name) })
	return actions, err
}

// act runs an action on an object and computes the merge patch that Argo CD would send. That the script itself
// fails is an answer.
func act(customized map[string]v1alpha1.ResourceOverride, name string, object *unstructured.Unstructured) (any, error) {
	vm := lua.VM{ResourceOverrides: customized}
	action, err := vm.GetResourceAction(object, name)
	if err != nil {
		return nil, err
	}
	before, err := object.MarshalJSON()
	if err != nil {
		return nil, err
	}
	impacted, err := vm.ExecuteResourceAction(object, action.ActionLua, nil)
	if err != nil {
		return changed{Error: err.Error()}, nil
	}
	if len(impacted) != 1 || impacted[0].K8SOperation != lua.PatchOperation {
		return nil, fmt.Errorf("action %s is to patch one object", name)
	}
	after, err := impacted[0].UnstructuredObj.MarshalJSON()
	if err != nil {
		return nil, err
	}
	patch, err := jsonpatch.CreateMergePatch(before, after)
	if err != nil {
		return nil, err
	}
	return changed{Object: impacted[0].UnstructuredObj, Patch: patch}, nil
}

// answer picks what is asked for on the command line.
func answer(arguments []string) (func(*unstructured.Unstructured) (any, error), error) {
	if len(arguments) < 2 {
		return nil, errors.New("usage: argocd-lua CONFIGMAP health|discovery|action NAME")
	}
	customized, err := overrides(arguments[0])
	if err != nil {
		return nil, err
	}
	switch what, rest := arguments[1], arguments[2:]; {
	case what == "health" && len(rest) == 0:
		return func(object *unstructured.Unstructured) (any, error) { return judge(customized, object) }, nil
	case what == "discovery" && len(rest) == 0:
		return func(object *unstructured.Unstructured) (any, error) { return discover(customized, object) }, nil
	case what == "action" && len(rest) == 1:
		return func(object *unstructured.Unstructured) (any, error) { return act(customized, rest[0], object) }, nil
	default:
		return nil, fmt.Errorf("%q is neither health nor discovery nor action NAME", strings.Join(arguments[1:], " "))
	}
}

func run(arguments []string, in io.Reader, out io.Writer) error {
	ask, err := answer(arguments)
	if err != nil {
		return err
	}
	reader := bufio.NewReader(in)
	writer := json.NewEncoder(out)
	writer.SetEscapeHTML(false)
	for {
		line, err := reader.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			// The object's own decoder reads whole numbers as int64, as in a live Argo CD.
			var object unstructured.Unstructured
			if err := object.UnmarshalJSON(line); err != nil {
				return fmt.Errorf("reading an object: %w", err)
			}
			said, err := ask(&object)
			if err != nil {
				return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
			}
			if err := writer.Encode(said); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func main() {
	logrus.SetLevel(logrus.ErrorLevel)
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "argocd-lua:", err)
		os.Exit(1)
	}
}
