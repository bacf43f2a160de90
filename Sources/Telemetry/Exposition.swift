/// The two text formats in which Prometheus reads metrics.
public enum ExpositionFormat: Sendable {
    /// Prometheus's text format, version 0.0.4.
    case text
    /// OpenMetrics 1.0.0.
    case openMetrics

    /// The value of the `Content-Type` header.
    public var contentType: String {
        switch self {
        case .text: "text/plain; version=0.0.4; charset=utf-8"
        case .openMetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8"
        }
    }

    /// Returns the text of a scrape with these families. Families without series are left out.
    public func render(_ families: [MetricFamily]) -> String {
        var text = ""
        for family in families where !family.series.isEmpty { render(family, into: &text) }
        if self == .openMetrics { text += "# EOF\n" }
        return text
    }

    private func render(_ family: MetricFamily, into text: inout String) {
        let bare = family.kind == .counter && self == .openMetrics && family.name.hasSuffix("_total")
        let name = bare ? String(family.name.dropLast("_total".count)) : family.name
        text += "# HELP \(name) \(escape(family.help, quotes: self == .openMetrics))\n"
        text += "# TYPE \(name) \(family.kind.rawValue)\n"
        for (values, series) in family.series.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            let labels = zip(family.labels, values).map { "\($0)=\"\(escape($1, quotes: true))\"" }
            if family.kind == .histogram {
                render(series, of: family, labels, into: &text)
            } else {
                text += "\(family.name)\(braces(labels)) \(number(series.value))\n"
            }
        }
    }

    private func render(
        _ series: MetricSeries, of family: MetricFamily, _ labels: [String], into text: inout String
    ) {
        var total = 0
        for (bound, count) in zip(family.buckets, series.buckets) {
            total += count
            text += "\(family.name)_bucket\(braces(labels + ["le=\"\(number(bound))\""])) \(total)\n"
        }
        text += "\(family.name)_bucket\(braces(labels + ["le=\"+Inf\""])) \(number(series.value))\n"
        text += "\(family.name)_sum\(braces(labels)) \(number(series.sum))\n"
        text += "\(family.name)_count\(braces(labels)) \(number(series.value))\n"
    }

    private func braces(_ labels: [String]) -> String {
        labels.isEmpty ? "" : "{\(labels.joined(separator: ","))}"
    }

    private func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        if let whole = Int64(exactly: value), abs(whole) < 1 << 53 { return String(whole) }
        return String(value)
    }

    private func escape(_ text: String, quotes: Bool) -> String {
        var result = ""
        for character in text.unicodeScalars {
            switch character {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\"" where quotes: result += "\\\""
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }
}
