//! Which children are repaired, and when.

use super::scene::Scene;
use crate::plan::{PodsObs, Selector, Upkeep, Write};

fn upkeep(scene: &mut Scene) -> Vec<Upkeep> {
    let writes = scene.pass().writes;
    let upkeep = |write: Write| match write {
        Write::Upkeep(child) => Some(child),
        _ => None,
    };
    writes.into_iter().filter_map(upkeep).collect()
}

fn nodes_of(revision: &str) -> Upkeep {
    Upkeep::NewHeadlessService(revision.to_owned())
}

#[test]
fn the_nodes_of_a_revision_find_each_other_from_before_its_first_pod() {
    let mut scene = Scene::rolling();
    scene.world.upkeep = [nodes_of("v2")].into();
    let writes = scene.pass().writes;
    let service = writes.iter().position(|write| *write == Write::Upkeep(nodes_of("v2")));
    let pods = writes.iter().position(|write| matches!(write, Write::CreateDeployment { .. }));
    assert!(service.is_some() && pods.is_some() && service < pods, "{writes:?}");
}

#[test]
fn they_find_each_other_until_the_last_has_drained() {
    let mut scene = Scene::stable();
    scene.store("v0", |_| {});
    scene.world.upkeep = [nodes_of("v0")].into();
    assert_eq!(upkeep(&mut scene), [], "it has no pods: nothing is written at rest");
    scene.run("v0", 0, 0);
    assert_eq!(upkeep(&mut scene), []);
    let differs = Upkeep::HeadlessService(Some("v0".to_owned()));
    scene.world.upkeep.insert(differs.clone());
    assert_eq!(upkeep(&mut scene), std::slice::from_ref(&differs), "or it would differ for ever");
    scene.world.upkeep.remove(&differs);
    scene.world.pods.insert("v0".to_owned(), PodsObs { total: 1, ..PodsObs::default() });
    assert_eq!(upkeep(&mut scene), [nodes_of("v0")]);
}

#[test]
fn a_deployment_is_deleted_when_its_last_pod_is_gone() {
    let mut scene = Scene::stable();
    scene.goal.rollback_window = 0;
    scene.store("v0", |_| {});
    scene.run("v0", 0, 0);
    scene.points_to(Selector::Only("v1".to_owned()));
    scene.world.pods.insert("v0".to_owned(), PodsObs { total: 1, ..PodsObs::default() });
    assert_eq!(scene.settle().writes, [], "it drains");
    scene.world.pods.remove("v0");
    let writes = scene.settle().writes;
    assert!(
        matches!(&writes[..], [Write::DeleteDeployment { revision, .. }] if revision == "v0"),
        "{writes:?}"
    );
}

#[test]
fn nodes_may_list_their_peers_as_long_as_there_are_some() {
    let asking = |revisions: &[&str]| revisions.iter().map(|name| (*name).to_owned()).collect();
    for (revisions, pods_of_v0, wanted) in
        [(&["v0", "v1"][..], 0, true), (&["v0"][..], 0, false), (&["v0"][..], 1, true), (&[][..], 0, false)]
    {
        let mut scene = Scene::stable();
        scene.store("v0", |_| {});
        scene.run("v0", 0, 0);
        scene.world.pods.insert("v0".to_owned(), PodsObs { total: pods_of_v0, ..PodsObs::default() });
        let (bind, unbind) =
            (Upkeep::PeersBinding(asking(revisions)), Upkeep::NoPeersBinding(asking(revisions)));
        scene.world.upkeep = [bind.clone(), unbind.clone()].into();
        assert_eq!(upkeep(&mut scene), [if wanted { bind } else { unbind }], "{revisions:?} {pods_of_v0}");
    }
}

#[test]
fn what_is_not_wanted_any_more_goes() {
    let mut scene = Scene::stable();
    scene.world.upkeep = [Upkeep::NoHeadlessService, Upkeep::HeadlessService(None)].into();
    assert_eq!(upkeep(&mut scene), [Upkeep::HeadlessService(None), Upkeep::NoHeadlessService]);
}
