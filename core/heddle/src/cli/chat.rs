//! `heddle chat`: questions about an image, answered as they are written.

use std::io::{BufRead, IsTerminal};

use heddle_data::text::dialogue::Round;
use heddle_tensor::{Backend, HostTensor};

use super::{
    args::{ChatOptions, Common},
    exit::{Exit, Failure},
    finished::{artifact, find_node, read_images, sources},
    home, output,
    prepare::{Asked, Prepared},
};
use crate::{
    device::on_backend,
    exec::NodeError,
    nodes::{Captioner, Loaded, Records, SeenBatch, Tokenizers},
    project,
};

/// What a chat needs of a run.
const PORTS: [&str; 4] = ["weights", "tokenizer", "records", "questions"];

/// Runs the command.
pub fn run(options: &ChatOptions, common: &Common) -> Result<Exit, Failure> {
    let project = project::load(&options.run.file, &options.run.set)?;
    let id = find_node(&project.graph, options.node.as_deref(), "eval.questions", |node| {
        node.chatter().is_some()
    })?;
    let nodes = sources(&project.graph, id, &PORTS);
    let home = home::of_experiment(common, &options.run.file);
    let asked = Asked::finished(&nodes, &options.run);
    let ready = Prepared::new(project, &home, &format!("chat {}", options.run.file), asked)?;
    let artifact = |port: &str| artifact(&ready, id, port, true);
    let (weights, tokenizer, records) = (artifact("weights")?, artifact("tokenizer")?, artifact("records")?);
    let has_questions = ready.project.graph.node(id).edges.contains_key("questions");
    let questions = has_questions.then(|| artifact("questions")).transpose()?;
    let tokenizers = Tokenizers::read(&tokenizer, questions.as_ref())?;
    let image = read_images(std::slice::from_ref(&options.image), &Records::read(&records)?.settings.image)?;
    let graph = &ready.project.graph;
    let chatter = graph.node(id).spec.chatter();
    let chatter = chatter.ok_or_else(|| Failure::Other("the node answers no questions".to_owned()))?;
    let seed = ready.project.experiment.seed;
    ready.pool.install(|| {
        let opened = ready.compute.open(chatter.need(1)).map_err(NodeError::from)?;
        on_backend!(opened, |backend| {
            let loaded = chatter.load(&weights, backend)?;
            let chat = Chat { chatter, loaded, tokenizers: &tokenizers, image, seed, rounds: Vec::new() };
            chat.run(options)
        })
    })
}

/// A dialogue that goes on.
struct Chat<'a, B: Backend> {
    chatter: &'a Captioner,
    loaded: Loaded<B>,
    tokenizers: &'a Tokenizers,
    image: HostTensor,
    seed: u64,
    rounds: Vec<Round>,
}

impl<B: Backend> Chat<'_, B> {
    /// Answers the prompts of the command line, or else the lines of standard input.
    fn run(mut self, options: &ChatOptions) -> Result<Exit, Failure> {
        for prompt in &options.prompt {
            self.answer(prompt)?;
        }
        if !options.prompt.is_empty() {
            return Ok(Exit::Done);
        }
        let input = std::io::stdin();
        let invite = || {
            if input.is_terminal() {
                output::invite("> ");
            }
        };
        if input.is_terminal() {
            output::note("one question a line; an empty line or Ctrl-D ends the chat");
        }
        invite();
        for line in input.lock().lines() {
            let line = line.map_err(Failure::io("reading the question".to_owned()))?;
            if line.trim().is_empty() {
                break;
            }
            self.answer(&line)?;
            invite();
        }
        Ok(Exit::Done)
    }

    fn answer(&mut self, question: &str) -> Result<(), Failure> {
        let dialogues = self.chatter.dialogues(&self.tokenizers.dialogue)?;
        let asked = [dialogues.ask(&self.rounds, question)?];
        let texts = dialogues.texts(&self.loaded.model, self.tokenizers.questions(), &asked)?;
        let mut begun = false;
        let mut say = |_: usize, part: &str| {
            // A model's first word begins with a space.
            let part = if begun { part } else { part.trim_start() };
            begun |= !part.is_empty();
            output::part(&output::printable(part));
        };
        let seed = self.seed.wrapping_add(self.rounds.len() as u64);
        let said = self.chatter.go_on(
            &self.loaded,
            &self.tokenizers.dialogue,
            SeenBatch::images(&self.loaded, &self.image)?,
            texts,
            seed,
            &mut say,
        )?;
        output::part("\n");
        self.rounds.extend(said.into_iter().map(|text| Round::new(question, &text)));
        Ok(())
    }
}
