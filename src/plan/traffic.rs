//! Which pods the active Service selects.
//!
//! It names one revision, except while several have pods: then it selects all of them, so that in a roll a
//! ready pod is a serving pod.

use super::replicas::Moves;
use super::world::{PreviewObs, Rev, Selector};
use super::{Draft, Write, route, strategy};

/// Keeps the active Service on the pods that are to serve; call before the moves are written, so that the
/// selector is wide before the first pod of another revision exists.
pub(super) fn steer(d: &mut Draft, focus: Option<&Rev>, moves: &Moves) -> Selector {
    let selector = wanted(d, focus, moves);
    match &d.world.service {
        None => d.write(Write::CreateService { selector: selector.clone() }),
        Some(service) if service.selector != selector || service.drifted => {
            let version = service.version.clone();
            d.write(Write::ApplyService { selector: selector.clone(), version });
        }
        Some(_) => {}
    }
    selector
}

fn wanted(d: &Draft, focus: Option<&Rev>, moves: &Moves) -> Selector {
    if let Some(selector) = &moves.selector {
        return selector.clone();
    }
    let mut populated: Vec<&Rev> = d
        .world
        .populated()
        .into_iter()
        .filter(|rev| !d.world.is_quiet(rev) || moves.raise.iter().any(|(raised, _)| raised == *rev))
        .collect();
    for (raised, _) in &moves.raise {
        if !populated.contains(&raised) {
            populated.push(raised);
        }
    }
    match populated.as_slice() {
        [] => match d.status.stable.as_ref().or(focus) {
            Some(rev) => Selector::Only(rev.clone()),
            None => Selector::Wide,
        },
        [one] => Selector::Only((*one).clone()),
        _ => Selector::Wide,
    }
}

/// Keeps the preview Service, which an app has whose candidates stand beside the stable revision: it leads to the
/// candidate, and else nowhere. While a gateway may send requests through it, it stays where it is.
pub(super) fn preview(d: &mut Draft) {
    let under_way = d.status.under_way();
    let standing = under_way.filter(|candidate| strategy::stands(candidate.strategy, candidate.gateway));
    let (kind, gateway) = (d.goal.strategy, strategy::by_gateway(d, d.goal.strategy));
    let wanted = strategy::stands(kind, gateway) || standing.is_some();
    let revision = standing.map(|candidate| candidate.revision.clone());
    match &d.world.preview {
        None if wanted => d.write(Write::CreatePreview { revision }),
        Some(preview) if leads_elsewhere(preview, revision.as_ref()) && !route::rests(d) => {
            let (there, drifted) = (preview.revision.clone(), preview.drifted);
            let version = preview.version.clone();
            d.writes.extend(drifted.then_some(Write::ApplyPreview { revision: there, version }));
        }
        Some(preview) if !wanted => {
            let (uid, version) = (preview.uid.clone(), preview.version.clone());
            d.write(Write::DeletePreview { uid, version });
        }
        Some(preview) if preview.revision != revision || preview.drifted => {
            let version = preview.version.clone();
            d.write(Write::ApplyPreview { revision, version });
        }
        _ => {}
    }
}

fn leads_elsewhere(preview: &PreviewObs, revision: Option<&Rev>) -> bool {
    preview.revision.is_some() && preview.revision.as_ref() != revision
}

/// The selector as the scale subresource wants it.
pub(super) fn text(app: &str, selector: &Selector) -> String {
    let wide = format!("phoenix-operator.dev/app={app},phoenix-operator.dev/component=web");
    match selector {
        Selector::Wide => wide,
        Selector::Only(rev) => format!("{wide},phoenix-operator.dev/revision={rev}"),
    }
}
