//! Line plots as SVG.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Linear,
    /// Values of 0 and below are left out.
    Log,
}

/// Named points, joined by a line in the order given.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

#[derive(Clone, Debug)]
pub struct Plot {
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    pub x_scale: Scale,
    pub y_scale: Scale,
    pub series: Vec<Series>,
}

const SIZE: (u32, u32) = (760, 420);
/// Room for the names of the series, pixels.
const LEGEND_WIDTH: u32 = 150;

/// Colours that differ for colour-blind readers too (Okabe and Ito's).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(148, 148, 0),
];

impl Scale {
    fn place(self, v: f64) -> Option<f64> {
        match self {
            Scale::Linear => v.is_finite().then_some(v),
            Scale::Log => (v > 0.0 && v.is_finite()).then(|| v.log10()),
        }
    }

    fn label(self, place: f64) -> String {
        let v = match self {
            Scale::Linear => place,
            Scale::Log => 10f64.powf(place),
        };
        let digits = match v.abs() {
            v if v == 0.0 || v >= 100.0 => 0,
            v if v >= 1.0 => 1,
            v if v >= 0.01 => 2,
            _ => 4,
        };
        format!("{v:.digits$}")
    }
}

/// The range of values with a margin; starts at 0 on a linear axis of positive values.
fn range(values: impl Iterator<Item = f64>, scale: Scale) -> std::ops::Range<f64> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for v in values {
        low = low.min(v);
        high = high.max(v);
    }
    if low > high {
        return 0.0..1.0;
    }
    if scale == Scale::Linear && low > 0.0 {
        low = 0.0;
    }
    let margin = ((high - low) * 0.05).max(1e-9 + high.abs() * 1e-3);
    let floor = if scale == Scale::Linear && low >= 0.0 { 0.0 } else { low - margin };
    floor..high + margin
}

impl Plot {
    /// Draws the plot.
    ///
    /// # Errors
    /// Where drawing fails, with a text for the user.
    pub fn svg(&self) -> Result<String, String> {
        let mut out = String::new();
        self.draw(&mut out).map_err(|e| format!("cannot draw '{}': {e}", self.title))?;
        Ok(out)
    }

    fn draw(&self, out: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let series: Vec<(&str, Vec<(f64, f64)>)> =
            self.series
                .iter()
                .map(|s| {
                    let points = s.points.iter().filter_map(|&(x, y)| {
                        Some((self.x_scale.place(x)?, self.y_scale.place(y)?))
                    });
                    (s.name.as_str(), points.collect())
                })
                .collect();
        let all = || series.iter().flat_map(|(_, points)| points);
        let xs = range(all().map(|p| p.0), self.x_scale);
        let ys = range(all().map(|p| p.1), self.y_scale);

        let area = SVGBackend::with_string(out, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        // The names stand beside the lines: over them, they would hide some.
        let (plot, legend) = area.split_horizontally(SIZE.0 - LEGEND_WIDTH);
        let mut chart = ChartBuilder::on(&plot)
            .caption(&self.title, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(42)
            .y_label_area_size(62)
            .build_cartesian_2d(xs, ys)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(225, 225, 225))
            .x_desc(&self.x_label)
            .y_desc(&self.y_label)
            .x_label_formatter(&|v| self.x_scale.label(*v))
            .y_label_formatter(&|v| self.y_scale.label(*v))
            .label_style(
                ("sans-serif", 12).into_text_style(&plot).pos(Pos::new(HPos::Center, VPos::Center)),
            )
            .draw()?;
        for (i, (name, points)) in series.into_iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            chart.draw_series(points.iter().map(|&p| Circle::new(p, 3, colour.filled())))?;
            chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
            let y = 50 + 20 * i as i32;
            legend.draw(&PathElement::new([(0, y), (16, y)], colour.stroke_width(2)))?;
            legend.draw(&Text::new(name, (22, y - 6), ("sans-serif", 12)))?;
        }
        area.present()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: &[(f64, f64)], y_scale: Scale) -> Plot {
        Plot {
            title: "t".into(),
            x_label: "x".into(),
            y_label: "y".into(),
            x_scale: Scale::Linear,
            y_scale,
            series: vec![Series { name: "a < b".into(), points: points.to_vec() }],
        }
    }

    #[test]
    fn draws_what_can_be_drawn() {
        for points in [
            &[][..],
            &[(1.0, 1.0)],
            &[(0.0, 0.0), (1.0, 0.0)],
            &[(1.0, 0.5), (2.0, f64::NAN), (3.0, f64::INFINITY), (4.0, 7e9)],
        ] {
            for scale in [Scale::Linear, Scale::Log] {
                let svg = plot(points, scale).svg().unwrap();
                assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
                assert!(svg.contains("a &lt; b"), "names are escaped");
            }
        }
    }

    #[test]
    fn ranges_hold_their_values() {
        let held = range([3.0, 5.0].into_iter(), Scale::Linear);
        assert!(held.start == 0.0 && held.end > 5.0);
        let held = range([-2.0, -1.0].into_iter(), Scale::Log);
        assert!(held.start < -2.0 && held.end > -1.0);
    }
}
