//! What is where in a scene.

use rand::{Rng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{Pool, SceneOptions};

/// The most rows and columns of cells: places beyond 3 x 3 have no names.
pub const MOST_CELLS: u32 = 3;

/// Sizes, and how far things are off their cell's centre, in cells of 32 pixels.
const SIZE: [u32; 2] = [24, 38];
const JITTER: u32 = 3;
const CELL: u32 = 32;

/// Share of the things whose class is that of another one.
const REPEATS: f64 = 0.25;

/// The largest number that is asked for on purpose.
const MOST_COUNTED: usize = 4;

/// A scene before it is painted.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Its number.
    pub index: u64,
    /// What there is, row by row.
    pub objects: Vec<Object>,
    /// Colours of the top and the bottom row.
    pub colours: [[u8; 3]; 2],
    /// The class that the question about a number is about.
    pub counted: u8,
}

/// A thing in a scene.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Which sprite of the pool.
    pub sprite: usize,
    /// Its class.
    pub class: u8,
    /// Row of its cell, from the top.
    pub row: u32,
    /// Column of its cell, from the left.
    pub col: u32,
    /// Side in pixels.
    pub size: u32,
    /// Its left and upper edge in pixels; a part of it may lie outside.
    pub corner: [i32; 2],
}

impl Scene {
    /// How many things are of a class.
    pub fn count(&self, class: u8) -> usize {
        self.objects.iter().filter(|object| object.class == class).count()
    }
}

pub(super) fn plan(index: u64, pool: &Pool, options: &SceneOptions, rng: &mut ChaCha8Rng) -> Scene {
    let [least, most] = options.objects;
    let (counted, classes) = draw_classes(rng.gen_range(least..=most) as usize, pool, rng);
    let mut cells: Vec<u32> = (0..options.grid * options.grid).collect();
    cells.shuffle(rng);
    let mut placed: Vec<(u32, u8)> = cells.into_iter().zip(classes).collect();
    placed.sort_unstable();
    let objects = placed.into_iter().map(|(cell, class)| object(cell, class, pool, options, rng));
    let objects = objects.collect();
    let mut colour = || [0; 3].map(|_: u8| rng.gen_range(150..=255));
    Scene { index, objects, colours: [colour(), colour()], counted }
}

/// The class that is counted, and those of all things. The number is drawn before the class, so that large numbers are
/// as frequent as small ones, as far as the things suffice; all other things are of other classes.
fn draw_classes(objects: usize, pool: &Pool, rng: &mut ChaCha8Rng) -> (u8, Vec<u8>) {
    let all: Vec<u8> = pool.classes().collect();
    let counted = all.choose(rng).copied().unwrap_or_default();
    let others: Vec<u8> = all.into_iter().filter(|class| *class != counted).collect();
    let count = match others.is_empty() {
        true => objects,
        false => rng.gen_range(0..=objects.min(MOST_COUNTED) as u32) as usize,
    };
    let mut classes = vec![counted; count];
    while classes.len() < objects {
        let from = match &classes[count..] {
            earlier if !earlier.is_empty() && rng.gen_bool(REPEATS) => earlier,
            _ => &others,
        };
        let class = from.choose(rng).copied().unwrap_or(counted);
        classes.push(class);
    }
    (counted, classes)
}

fn object(place: u32, class: u8, pool: &Pool, options: &SceneOptions, rng: &mut ChaCha8Rng) -> Object {
    let cell = options.canvas / options.grid;
    let scaled = |pixels: u32| (pixels * cell + CELL / 2) / CELL;
    let size = rng.gen_range(scaled(SIZE[0])..=scaled(SIZE[1])).max(1);
    let (row, col) = (place / options.grid, place % options.grid);
    let jitter = scaled(JITTER) as i32;
    let mut edge = |place: u32| {
        let centre = place * cell + cell / 2;
        centre as i32 + rng.gen_range(-jitter..=jitter) - (size / 2) as i32
    };
    let corner = [edge(col), edge(row)];
    let sprite = pool.of_class(class).choose(rng).copied().unwrap_or_default();
    Object { sprite, class, row, col, size, corner }
}
