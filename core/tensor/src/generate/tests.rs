//! Searches over a toy decoder, whose scores are a table of the last token.

use super::*;

/// Scores after each token, the same for every sequence; remembers nothing else.
struct Table(Vec<Vec<f32>>);

impl NextToken for Table {
    fn next(&mut self, _: &[usize], tokens: &[u32]) -> Result<Vec<Vec<f32>>, TensorError> {
        Ok(tokens.iter().map(|token| self.0[*token as usize].clone()).collect())
    }
}

/// Logarithms of shares; token 3 ends.
fn table() -> Table {
    let rows = [[0.5, 0.4, 0.05, 0.05], [0.1, 0.1, 0.1, 0.7], [0.3, 0.3, 0.1, 0.3], [0.25; 4]];
    Table(rows.iter().map(|row| row.iter().map(|share: &f32| share.ln()).collect()).collect())
}

fn limits(min_new: usize, max_new: usize) -> Limits {
    Limits { min_new, max_new, end: vec![3] }
}

fn tokens(search: &Search, limits: &Limits, records: usize) -> Vec<Vec<u32>> {
    let first = vec![table().0[0].clone(); records];
    let texts = generate(first, &mut table(), search, limits, &mut ()).unwrap();
    texts.into_iter().map(|text| text.tokens).collect()
}

#[test]
fn greedy_takes_the_best_each_time_and_beams_look_ahead() {
    assert_eq!(tokens(&Search::Greedy, &limits(0, 4), 1), [[0, 0, 0, 0]]);
    let beam = Search::Beam { beams: 2, length_penalty: 0.0 };
    assert_eq!(tokens(&beam, &limits(0, 4), 2), [[1, 3], [1, 3]]);
    // Not before three tokens: 0 1 3 is the likeliest of these.
    assert_eq!(tokens(&beam, &limits(2, 4), 1), [[0, 1, 3]]);
}

#[test]
fn a_score_is_the_sum_of_logarithms_over_the_length() {
    let beam = Search::Beam { beams: 2, length_penalty: 1.0 };
    let text = generate(vec![table().0[0].clone()], &mut table(), &beam, &limits(0, 2), &mut ()).unwrap();
    assert_eq!(text[0].tokens, [1, 3]);
    assert!((text[0].score - (0.4_f64 * 0.7).ln() / 2.0).abs() < 1e-6);
}

#[test]
fn samples_depend_on_seed_and_record_and_not_on_company() {
    let search =
        |seed, temperature, top_k, top_p| Search::Sample(Sampling { temperature, top_k, top_p, seed });
    let free = search(1, 1.0, None, None);
    let three = tokens(&free, &limits(12, 12), 3);
    assert_eq!(tokens(&free, &limits(12, 12), 2), three[..2]);
    assert!(three[0] != three[1], "{three:?}");
    assert!(tokens(&search(2, 1.0, None, None), &limits(12, 12), 3) != three);
    // What leaves one token is greedy.
    let greedy = tokens(&Search::Greedy, &limits(0, 4), 1);
    for one in [search(1, 1e-9, None, None), search(1, 1.0, Some(1), None), search(1, 1.0, None, Some(0.3))] {
        assert_eq!(tokens(&one, &limits(0, 4), 1), greedy);
    }
}

/// Sampled shares are the softmax's.
#[test]
fn sampling_follows_the_shares() {
    let many = 4000;
    let drawn = tokens(
        &Search::Sample(Sampling { temperature: 1.0, top_k: None, top_p: None, seed: 3 }),
        &limits(1, 1),
        many,
    );
    let share = |token| drawn.iter().filter(|text| text[0] == token).count() as f64 / many as f64;
    // The end may not come first: its share goes to the others.
    assert!(
        (share(0) - 0.5 / 0.95).abs() < 0.03 && (share(1) - 0.4 / 0.95).abs() < 0.03,
        "{} {}",
        share(0),
        share(1)
    );
    assert_eq!(share(3), 0.0);
}

/// Ends a record's text after a token.
struct Until(u32, Vec<u32>);

impl Watch for Until {
    fn token(&mut self, _: usize, token: u32) -> bool {
        self.1.push(token);
        token == self.0
    }
}

#[test]
fn who_looks_on_sees_every_token_and_may_end_the_text() {
    let mut watch = Until(0, Vec::new());
    let text = generate(vec![table().0[0].clone()], &mut table(), &Search::Greedy, &limits(0, 9), &mut watch)
        .unwrap();
    assert_eq!((text[0].tokens.as_slice(), watch.1.as_slice()), ([0_u32].as_slice(), [0_u32].as_slice()));
}
