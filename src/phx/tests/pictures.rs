//! What `status` and `explain` say of apps in many situations.

use super::scene;
use crate::phx::{explain, gather::Unread, render, view};

#[test]
fn status_draws_every_situation() {
    for (name, scene) in scene::all() {
        let lines = render::render(&view::view(&scene.0), false);
        insta::assert_snapshot!(format!("status_{name}"), lines.join("\n"));
    }
}

#[test]
fn colours_change_nothing_but_colours() {
    for (name, scene) in scene::all() {
        let view = view::view(&scene.0);
        let plain = render::render(&view, false).join("\n");
        let coloured = render::render(&view, true).join("\n");
        let mut bare = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once("\x1b[") {
            bare.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        bare.push_str(rest);
        assert_eq!(bare, plain, "{name}");
        assert_ne!(coloured, plain, "{name}");
    }
}

#[test]
fn behind_a_contract_force_is_recommended_and_no_other_attempt() {
    let mut view = view::view(&scene::migration_failed().0);
    let all = |view: &view::View| crate::phx::advice::advice(view).join("\n");
    assert!(all(&view).contains("kubectl phx retry shop"), "{}", all(&view));
    for (message, back) in
        [("return to it by the command `rollback 7f", true), ("any change of the spec", false)]
    {
        for gate in &mut view.gates {
            (gate.reason, gate.message) = (crate::plan::BEHIND_CONTRACT.to_owned(), message.to_owned());
        }
        let says = all(&view);
        assert_eq!(says.contains("kubectl phx rollback shop 7f3a9c1d2e --force"), back, "{says}");
        assert!(!says.contains("retry"), "{says}");
    }
}

#[test]
fn explain_says_it_in_one_paragraph() {
    let paragraphs: Vec<String> = scene::all()
        .into_iter()
        .map(|(name, scene)| format!("[{name}]\n{}", explain::paragraph(&view::view(&scene.0))))
        .collect();
    for paragraph in &paragraphs {
        assert_eq!(paragraph.lines().count(), 2, "{paragraph}");
    }
    insta::assert_snapshot!(paragraphs.join("\n\n"));
}

/// As with nothing but the right to get the app.
#[test]
fn what_may_not_be_read_is_named_and_nothing_is_said_of_it() {
    let kinds = [("Deployment", "deployments.apps"), ("Pod", "pods"), ("EndpointSlice", "endpointslices")];
    let unread =
        kinds.map(|(kind, resource)| Unread { kind: kind.to_owned(), resource: resource.to_owned() });
    let mut scene = scene::canary_paused().0;
    scene.deployments.clear();
    scene.pods.clear();
    let view = view::view_without(&scene, &unread);
    insta::assert_snapshot!(format!(
        "{}\n\n{}",
        render::render(&view, false).join("\n"),
        explain::paragraph(&view)
    ));
}

#[test]
fn programs_get_the_same_picture() {
    let view = view::view(&scene::canary_paused().0);
    insta::assert_snapshot!(serde_json::to_string_pretty(&view).unwrap());
}
