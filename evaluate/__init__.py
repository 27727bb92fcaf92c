"""Stage 3, evaluate: stored predictions -> metrics, statistics, tables, figures. Never trains, never opens features."""
