//! Commands that are given again, and those that a tool applies again and again.

use super::scene::Scene;
use crate::api::{AGAIN, CommandAnswer, LastCommand};

/// Gives a command by its text.
fn give(scene: &mut Scene, text: &str) -> (CommandAnswer, String) {
    scene.goal.command = Some(text.to_owned());
    scene.settle();
    let last = scene.status.last_command.as_ref().unwrap();
    assert_eq!(last.text, text);
    (last.answer, last.message.clone())
}

fn earlier(scene: &Scene) -> &[String] {
    scene.status.last_command.as_ref().map_or(&[], |last| &last.earlier)
}

#[test]
fn what_was_refused_does_not_act_later_by_itself() {
    let mut scene = Scene::rolling();
    assert_eq!(give(&mut scene, "retry v2/2").0, CommandAnswer::Refused);
    assert_eq!(give(&mut scene, "abort v2/2").0, CommandAnswer::Accepted);
    // Now it could be carried out. The manifest is applied again, with the refused command in it.
    let (answer, message) = give(&mut scene, "retry v2/2");
    assert_eq!(answer, CommandAnswer::Ignored);
    assert!(message.contains("again-2"), "{message}");
    assert_eq!(give(&mut scene, " retry   v2/2").0, CommandAnswer::Ignored, "spaces are no other words");
    assert_eq!(scene.status.attempt, 2);
    // A person asks again.
    assert_eq!(give(&mut scene, "retry v2/2 again-2").0, CommandAnswer::Accepted);
    assert_eq!(scene.status.attempt, 3);
}

#[test]
fn what_was_accepted_does_not_act_twice() {
    let mut scene = Scene::rolling();
    assert_eq!(give(&mut scene, "pause v2/2/1").0, CommandAnswer::Accepted);
    assert_eq!(give(&mut scene, "resume v2/2/2").0, CommandAnswer::Accepted);
    assert_eq!(give(&mut scene, "abort v2/2").0, CommandAnswer::Accepted);
    assert_eq!(give(&mut scene, "retry v2/2").0, CommandAnswer::Accepted);
    for text in ["pause v2/2/1", "resume v2/2/2", "abort v2/2", "retry v2/2", "abort v2/2 again-2"] {
        assert_eq!(give(&mut scene, text).0, CommandAnswer::Ignored, "{text}");
    }
    assert_eq!((scene.status.attempt, scene.status.paused), (3, false));
    assert!(scene.status.candidate.as_ref().unwrap().verdict.is_none());
}

#[test]
fn a_text_that_stays_is_answered_once_and_nothing_is_written_for_it() {
    let mut scene = Scene::rolling();
    give(&mut scene, "retry v2/2");
    give(&mut scene, "promote v2/2");
    give(&mut scene, "retry v2/2");
    let before = scene.status.clone();
    scene.settle();
    assert_eq!(scene.status, before);
    scene.goal.command = None;
    scene.settle();
    assert_eq!(scene.status, before, "taking it away changes nothing");
}

#[test]
fn only_what_could_act_is_kept_and_not_for_ever() {
    let mut scene = Scene::rolling();
    give(&mut scene, "pause v2/2/1");
    give(&mut scene, "resume v2/2/2");
    give(&mut scene, "make coffee");
    give(&mut scene, "abort v1/1");
    give(&mut scene, "promote v2/2");
    assert_eq!(earlier(&scene), [""; 0], "numbered ones, nonsense and an earlier attempt");
    for number in 2..40 {
        assert_eq!(give(&mut scene, &format!("retry v2/2 {AGAIN}{number}")).0, CommandAnswer::Refused);
    }
    assert_eq!(earlier(&scene).len(), 16);
    assert_eq!(earlier(&scene)[0], "retry v2/2 again-38");
    give(&mut scene, &format!("abort v2/2{}", " ".repeat(300)));
    assert!(earlier(&scene).iter().all(|text| text.len() < 128));
    give(&mut scene, "retry v2/2");
    give(&mut scene, "abort v2/3");
    assert_eq!(earlier(&scene), [""; 0], "of the attempt before");
}

#[test]
fn words_that_were_not_answered_are_found() {
    let mut scene = Scene::rolling();
    let mut texts = Vec::new();
    for _ in 0..4 {
        let text = LastCommand::unanswered(scene.status.last_command.as_ref(), "retry v2/2");
        assert_eq!(give(&mut scene, &text).0, CommandAnswer::Refused, "{text}");
        texts.push(text);
        give(&mut scene, &format!("promote v2/2 {AGAIN}{}", texts.len()));
    }
    assert_eq!(texts, ["retry v2/2", "retry v2/2 again-2", "retry v2/2 again-3", "retry v2/2 again-4"]);
}

#[test]
fn a_message_names_words_that_will_be_answered() {
    let mut scene = Scene::rolling();
    give(&mut scene, "retry v2/2");
    give(&mut scene, "abort v2/2");
    assert!(scene.status.message.contains("command=\"retry v2/2 again-2\""), "{}", scene.status.message);
}
